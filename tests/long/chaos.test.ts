/**
 * Every hop × every phase × every fault, again and again, with real processes: the answer is the same to the byte each time.
 * Goes on where the last run stopped until 1,000 hops have been lost (CHAOS_KILLS), and prints what it has seen.
 * CHAOS_MINUTES ends a run sooner.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ChaosCase, type ChaosSwarm, createChaosSwarm, spans } from '../chaos/chaos.ts'

const record = fileURLToPath(new URL('../../bench/results/chaos.json', import.meta.url))
const goal = Number(process.env.CHAOS_KILLS ?? 1_000)
const minutes = Number(process.env.CHAOS_MINUTES ?? 55)

interface Line {
  runs: number
  survived: number
  /** Resume times: the longest wait of each answer, ms. */
  gapsMs: number[]
}

const phases: readonly (readonly [ChaosCase['fault']['kind'], number])[] = [
  ['open', 1],
  ['prefill', 1],
  ['decode', 1],
  ['decode', 15],
  ['draft', 1],
]
const faults = ['die', 'stop', 'leave', 'stall', 'infinite'] as const

function casesInOrder(): ChaosCase[] {
  const breakages = phases.flatMap(([kind, nth]) => {
    // Nothing is computed when KV is reserved.
    const possible = faults.filter((does) => kind !== 'open' || !['stall', 'infinite'].includes(does))
    return possible.map((does): ChaosCase['fault'] => ({ kind, nth, does }))
  })
  // Each time another span: the one before comes back meanwhile.
  return [...breakages, { kind: 'frame', nth: 40, does: 'corrupt' } as const].flatMap((fault) =>
    spans.map((span) => ({ span, fault })),
  )
}

async function readRecord(): Promise<Record<string, Line>> {
  return JSON.parse(await readFile(record, 'utf8').catch(() => '{}')) as Record<string, Line>
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
}

function table(lines: Readonly<Record<string, Line>>): string {
  const rows = Object.entries(lines).map(([name, { runs, survived, gapsMs }]) => {
    const [median, worst] = [quantile(gapsMs, 0.5), quantile(gapsMs, 0.99)]
    return `${name.padEnd(10)} ${String(runs).padStart(6)} ${String(survived).padStart(9)} ${median.toFixed(0).padStart(10)} ${worst.toFixed(0).padStart(8)}`
  })
  return ['fault        runs  survived  median ms  p99 ms', ...rows].join('\n')
}

let swarm: ChaosSwarm

beforeAll(async () => {
  swarm = await createChaosSwarm({ lifeMs: (minutes + 10) * 60_000 })
}, 300_000)
afterAll(() => swarm?.close())

test(`${goal} hops lost, and no answer with them`, async () => {
  const lines = await readRecord()
  const lost = () => Object.values(lines).reduce((sum, { runs }) => sum + runs, 0)
  const cases = casesInOrder()
  const deadlineMs = performance.now() + minutes * 60_000
  for (let at = lost(); lost() < goal && performance.now() < deadlineMs; at++) {
    const each = cases[at % cases.length]
    if (each === undefined) break
    const { result, undisturbed, struck, gapMs } = await swarm.run(each)
    if (!struck) continue
    const { text, tokens, logitsSha256 } = undisturbed
    const same =
      JSON.stringify([result.text, result.tokens, result.logitsSha256]) === JSON.stringify([text, tokens, logitsSha256])
    const line = lines[each.fault.does] ?? { runs: 0, survived: 0, gapsMs: [] }
    lines[each.fault.does] = line
    line.runs++
    line.gapsMs.push(Math.round(gapMs))
    if (same) line.survived++
    await writeFile(record, `${JSON.stringify(lines)}\n`)
    expect(same, JSON.stringify(each)).toBe(true)
  }
  process.stdout.write(`${table(lines)}\n`)
  for (const { runs, survived } of Object.values(lines)) expect(survived).toBe(runs)
})
