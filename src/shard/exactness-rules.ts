import { equalBytes } from '../base/bytes.ts'
import { systemClock } from '../base/clock.ts'
import { createRandom } from '../base/random.ts'
import type { Span } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createDeviceExecutor } from './device-executor.ts'
import { createExecutor, type Executor } from './executor.ts'
import { buildHeadGraph, buildSpanGraph, graphNames, usesRowZeroPoints } from './graph.ts'
import type { LinearWeights } from './graph-layer.ts'
import type { Weight } from './graph-nodes.ts'
import type { OrtRuntime, OrtSession, Provider } from './ort.ts'
import { bytesOf, probeLinear, probeSpec, probeWeights } from './probe-model.ts'
import type { RecipeId } from './recipe.ts'
import { createStaging, runRows } from './staging.ts'

/** What has to hold for a row's bits to depend on nothing but the row and what is before it (engine.md §6). */
export const rules = {
  rows: 'rows come out alike however a prompt is cut',
  span: 'layers come out alike however they are cut',
  company: 'rows come out alike in a run with other sessions',
  threads: 'rows come out alike with any number of threads',
  head: 'logits come out alike alone and among others',
  products: 'the largest values are multiplied without overflow',
} as const

export type Rule = keyof typeof rules

export interface RuleResults {
  readonly broken: readonly Rule[]
  /** What the layers made of known rows: with their weights the same on every machine, the numerics class. */
  readonly output: Uint8Array
}

/** Rows of the runs whose results are the class: the kernels of prefill and decode, without a past and with one. */
const cut = [300, 64, 2]
/** The same rows, cut so that a kernel that lets rows depend on each other shows it (docs/adr/0002). */
const otherCut = [129, 1, 2, 65, 3, 100, 66]
const nRows = cut.reduce((sum, rows) => sum + rows, 0)
/** Rows of the head: alone, and among others. */
const headRows = 41
const vocabSize = 96

interface Subject {
  readonly ort: OrtRuntime
  readonly recipe: RecipeId
  readonly provider: Provider
}

/** Checks every rule on two layers of known weights, on this machine. Takes about a quarter of a second. ENGINE_FAILED. */
export async function checkRules(subject: Subject): Promise<RuleResults> {
  const spec = probeSpec()
  const random = createSymmetric(0x9e3779b9)
  const input = randomRows(nRows, spec.hiddenSize, random)
  const others = randomRows(nRows, spec.hiddenSize, random)
  const broken: Rule[] = []
  const model = buildLayers(subject, spec)
  const whole: Span = { start: 0, end: spec.nLayers }
  const expect = (rule: Rule, actual: Float32Array, expected: Float32Array) => {
    if (!equalBytes(bytesOf(actual), bytesOf(expected))) broken.push(rule)
  }
  const expected = await onLayers(subject, { spec, model }, 1, async (executor) => {
    const run = (sizes: readonly number[], span = whole, rows = input, room = nRows + 1) =>
      runCut(executor, { span, rows, sizes, room, hiddenSize: spec.hiddenSize })
    const result = await run(cut)
    expect('rows', await run(otherCut, whole, input, 2 * nRows), result)
    let hidden = input
    for (let layer = 0; layer < spec.nLayers; layer++) hidden = await run(cut, { start: layer, end: layer + 1 }, hidden)
    expect('span', hidden, result)
    const together = { span: whole, rows: input, others, sizes: cut, room: nRows + 1, hiddenSize: spec.hiddenSize }
    expect('company', await runCut(executor, together), result)
    return result
  })
  const sizes = { span: whole, rows: input, sizes: cut, room: nRows + 1, hiddenSize: spec.hiddenSize }
  expect('threads', await onLayers(subject, { spec, model }, 2, (executor) => runCut(executor, sizes)), expected)
  if (!(await isHeadAlike(subject, input.subarray(0, headRows * spec.hiddenSize)))) broken.push('head')
  if (!(await areProductsRight(subject))) broken.push('products')
  return { broken, output: bytesOf(expected) }
}

/** Two layers as a graph. */
function buildLayers({ recipe, provider }: Subject, spec: ModelSpec): Uint8Array {
  const random = createSymmetric(0x2545f491)
  // Every layer the same: what matters is that the second reads what the first wrote.
  const layer = probeWeights(spec, recipe, random)
  const span = { start: 0, end: spec.nLayers }
  return buildSpanGraph({ spec, recipe, span, weights: () => layer, kvType: provider === 'cuda' ? 'f16' : 'f32' })
}

async function onLayers<T>(
  { ort, recipe, provider }: Subject,
  { spec, model }: { spec: ModelSpec; model: Uint8Array },
  threads: number,
  use: (executor: Executor) => Promise<T>,
): Promise<T> {
  const span = { start: 0, end: spec.nLayers }
  const onDevice = provider === 'cuda'
  const graph = await ort.createSession(model, { threads, provider })
  const create = onDevice ? createDeviceExecutor : createExecutor
  const executor = create({ spec, recipe, span, threads }, { ort, graph, clock: systemClock })
  try {
    return await use(executor)
  } finally {
    executor.release()
    graph.release()
  }
}

interface CutRun {
  readonly span: Span
  /** [nRows, hiddenSize] f32 */
  readonly rows: Float32Array
  /** Rows of another session that go through the same runs. */
  readonly others?: Float32Array
  readonly sizes: readonly number[]
  /** KV positions of the session. */
  readonly room: number
  readonly hiddenSize: number
}

/** All rows through a session of its own, in runs of the given sizes. */
async function runCut(executor: Executor, { span, rows, others, sizes, room, hiddenSize }: CutRun) {
  const sources = others === undefined ? [rows] : [others, rows]
  const sessions = sources.map(() => executor.openSession(span, room, { factors: 'short', local: true }))
  const output = new Float32Array(rows.length)
  let pos = 0
  try {
    for (const nTokens of sizes) {
      const batch = sessions.map((session, i) => {
        const hidden = (sources[i] ?? rows).subarray(pos * hiddenSize, (pos + nTokens) * hiddenSize)
        return { session, pos, nTokens, hidden }
      })
      const results = await executor.run(batch)
      output.set(results.at(-1) ?? new Float32Array(), pos * hiddenSize)
      pos += nTokens
    }
    return output
  } finally {
    for (const session of sessions) session.release()
  }
}

/** Each row's logits alone and in one run with the others. */
async function isHeadAlike(subject: Subject, rows: Float32Array): Promise<boolean> {
  const { hiddenSize } = probeSpec()
  const random = createSymmetric(0x1234567)
  const source = Float32Array.from({ length: vocabSize * hiddenSize }, () => random() / 4)
  const head = probeLinear(subject.recipe, hiddenSize, vocabSize, source)
  const together = await runHead(subject, head, rows, headRows)
  const alone = await runHead(subject, head, rows.subarray(0, hiddenSize), 1)
  return equalBytes(bytesOf(alone), bytesOf(together.subarray(0, vocabSize)))
}

/** Rows and weights of ±1: every product is the largest one that the recipe's integers know. */
async function areProductsRight(subject: Subject): Promise<boolean> {
  const { hiddenSize } = probeSpec()
  const head = probeLinear(subject.recipe, hiddenSize, vocabSize, new Float32Array(vocabSize * hiddenSize).fill(1))
  const logits = await runHead(subject, head, new Float32Array(2 * hiddenSize).fill(1), 2)
  return logits.every((value) => Math.abs(value - hiddenSize) < hiddenSize / 200)
}

/** `rows`: [count, hiddenSize] → [count, vocabSize], as ends.ts runs them. */
async function runHead(subject: Subject, head: LinearWeights, rows: Float32Array, count: number) {
  const { ort, recipe, provider } = subject
  const spec = { ...probeSpec(), vocabSize }
  const ones = new Float32Array(spec.hiddenSize).fill(1)
  const finalNorm: Weight = { type: 'f32', dims: [ones.length], data: { bytes: bytesOf(ones) } }
  const graph: OrtSession = await ort.createSession(buildHeadGraph({ spec, recipe, finalNorm, head }), {
    threads: 1,
    provider,
  })
  const binding = graph.createBinding()
  const staging = createStaging({ hiddenSize: spec.hiddenSize, width: vocabSize, keep: 1 }, ort)
  try {
    const buffers = staging.get(runRows(recipe, count))
    binding.input(graphNames.hidden, buffers.input)
    binding.output(graphNames.logits, buffers.output)
    if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
    buffers.fill(rows)
    await binding.run()
    return buffers.take(count)
  } finally {
    binding.release()
    staging.release()
    graph.release()
  }
}

function randomRows(count: number, hiddenSize: number, random: () => number): Float32Array {
  return Float32Array.from({ length: count * hiddenSize }, () => 2 * random())
}

/** Values in [−0.5, 0.5), the same on every machine. */
function createSymmetric(seed: number): () => number {
  const random = createRandom(seed)
  return () => random() / 2 ** 32 - 0.5
}
