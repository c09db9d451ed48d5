import { formatSpan, spanLength } from '../base/span.ts'
import type { Machine } from '../node/detect.ts'
import type { Plan, PlanSpeed, SpanCost } from '../node/plan.ts'
import type { SelfTest } from '../node/self-test.ts'
import { formatBytes } from './output.ts'

/** "16 cores, 12 GB of 16 GB memory free, 200 GB disk free, on battery (40 %)". */
const limits = { machine: '', cgroup: ' (limit of its control group)', share: ' (the share set for llm-node)' } as const

export function describeMachine({ cpu, memory, disk, gpus, battery }: Machine): string {
  const limit = limits[memory.limitedBy]
  return [
    `${cpu.cores} core${cpu.cores === 1 ? '' : 's'}`,
    `${formatBytes(memory.freeBytes)} of ${formatBytes(memory.totalBytes)} memory free${limit}`,
    ...(disk === null ? [] : [`${formatBytes(disk.freeBytes)} disk free`]),
    ...gpus.map(({ name }) => `${name} (not used yet)`),
    ...(battery?.discharging ? [`on battery${battery.percent === null ? '' : ` (${battery.percent} %)`}`] : []),
  ].join(', ')
}

/** "1.6 MB, less than a minute" */
export function describeDownload({ downloadBytes, minutes }: SpanCost): string {
  const time =
    minutes === 0 ? 'from this machine' : minutes < 1 ? 'less than a minute' : `about ${Math.ceil(minutes)} min`
  return `${formatBytes(downloadBytes)}, ${time}`
}

export function describeMemory({ memory }: SpanCost): string {
  const { totalBytes, weightsBytes, endsBytes, kvBytes } = memory
  const parts = [
    `weights ${formatBytes(weightsBytes)}`,
    ...(endsBytes > 0 ? [`ends ${formatBytes(endsBytes)}`] : []),
    `two sessions of 2,048 tokens ${formatBytes(kvBytes)}`,
    'the program',
  ]
  return `about ${formatBytes(totalBytes)} (${parts.join(', ')})`
}

export function describeFit(plan: Plan): string {
  const { fit, nLayers } = plan
  if (fit.limitedBy === 'model') return `all ${nLayers} layers fit`
  if (fit.layers === 0) return `not even one of ${nLayers} layers fits (${fit.limitedBy})`
  return `${fit.layers} of ${nLayers} layers fit (limited by ${fit.limitedBy})`
}

export function describeSwarm({ swarm, recipe }: Plan): string {
  if (swarm.peers === 0) return 'no peer was found'
  const gaps = swarm.gaps.map(formatSpan).join(', ')
  const held = swarm.gaps.length === 0 ? 'every layer is held' : `held by nobody: ${gaps}`
  return `${swarm.peers} peer${swarm.peers === 1 ? '' : 's'}, ${swarm.holders} of them with this model in ${recipe}; ${held}`
}

export function describeSpeed({ layer, measured }: PlanSpeed): string {
  const figures = `${layer.decodeMs.toFixed(2)} ms a layer and token, ${layer.prefillMs.toFixed(2)} ms a token of the prompt`
  return measured ? figures : `${figures} (from the memory's speed: such a layer is too large to try)`
}

/** "Self-test passed: layer 4 is intact and takes 0.43 ms a token here (numerics class 1a2b3c4d)." */
export function describeSelfTest({ layer, cost, numericsClass }: SelfTest): string {
  const done =
    layer === null || cost === null
      ? ''
      : `layer ${layer} is intact and takes ${cost.decodeMs.toFixed(2)} ms a token here `
  return `Self-test passed: ${done || 'the engine runs '}(numerics class ${numericsClass.slice(0, 8)}).`
}

/** What one answer would get here and through the swarm; null when neither is possible or nothing was measured. */
export function describeEstimate({ estimate: { solo, split } }: Plan): string | null {
  const rates = [
    ...(solo === null ? [] : [`${solo.toFixed(1)} tokens/s alone`]),
    ...(split === null ? [] : [`${split.toFixed(1)} tokens/s through the swarm`]),
  ]
  if (rates.length === 0) return null
  return `${rates.join(', ')}${solo !== null && split !== null && solo > split ? ': alone is faster' : ''}`
}

/** The plan for programs: spans as people write them, features as a list. */
export function planBody(plan: Plan): Record<string, unknown> {
  const { recommended, machine, swarm, cost: _, ...rest } = plan
  return {
    ...rest,
    machine: { ...machine, cpu: { ...machine.cpu, features: [...machine.cpu.features] } },
    swarm: { ...swarm, gaps: swarm.gaps.map(formatSpan) },
    recommended: recommended === null ? null : costBody(recommended, recommended.reason, recommended.assignment.reason),
  }
}

function costBody({ span, downloadBytes, diskBytes, memory, minutes }: SpanCost, reason: string, why: string) {
  const layers = formatSpan(span)
  return { layers, count: spanLength(span), why, reason, downloadBytes, diskBytes, minutes, memory }
}
