/**
 * What splitting a model costs and brings: a Qwen3-0.6B-shaped model (28 layers) over 1, 2 and 3 nodes, each a process
 * with one thread, onion on, on loopback: one session, eight at a time, and the prefill of 1,024 tokens, whose chunks
 * overlap. The head is the entry's and left out. distributed-llama with 2 nodes: 0.97 × one process with two threads;
 * llama.cpp over RPC: 11 tokens/s where one thread alone makes 26 (measured on the same shape).
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Span } from '../src/base/span.ts'
import type { Ring } from '../src/onion/ring.ts'
import { createRingChain } from '../src/pipeline/chain.ts'
import { sendRows } from '../src/pipeline/send-rows.ts'
import { numericsClass } from '../src/shard/probe.ts'
import { parseRecipe, type RecipeId } from '../src/shard/recipe.ts'
import { type BenchNode, createBenchNode } from './lib/bench-node.ts'
import { type BenchModel, createBenchModel } from './lib/bench-weights.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { benchModelId } from './lib/packed-hop.process.ts'
import { type PackedHop, startPackedHop } from './lib/packed-hops.ts'

const nodeCounts = [1, 2, 3] as const
const nSessions = 8
const context = 128
const promptTokens = 1_024
const options = benchOptions()
const [steps, rounds] = options.quick ? [12, 1] : [40, 3]

/** The model over some nodes, with eight sessions on it; what was measured, one value a round. */
interface Pipeline {
  readonly hops: readonly PackedHop[]
  readonly entry: BenchNode
  readonly rings: readonly Ring[]
  readonly hiddenSize: number
  readonly tps1: number[]
  readonly tps8: number[]
  readonly prefillMs: number[]
}

function evenSpans(nLayers: number, count: number): Span[] {
  const bound = (i: number) => Math.round((i * nLayers) / count)
  return Array.from({ length: count }, (_, i) => ({ start: bound(i), end: bound(i + 1) }))
}

async function openPipeline(model: BenchModel, recipe: RecipeId, count: number, folder: string): Promise<Pipeline> {
  const { hiddenSize, nLayers } = model.spec
  const spans = evenSpans(nLayers, count)
  const hops = await Promise.all(spans.map((span) => startPackedHop({ model, recipe, span, threads: 1 })))
  const entry = await createBenchNode(join(folder, `entry-${recipe.replace('/', '-')}-${count}`))
  const request = {
    hops: hops.map(({ target }) => target),
    modelId: benchModelId,
    numericsClass: await numericsClass(recipe),
    hiddenSize,
    maxContext: promptTokens + 8,
  }
  const rings: Ring[] = []
  for (let i = 0; i < nSessions; i++) {
    rings.push(await entry.onion.openRing(request, { signal: AbortSignal.timeout(60_000) }))
  }
  return { hops, entry, rings, hiddenSize, tps1: [], tps8: [], prefillMs: [] }
}

const rowsOf = (count: number, hiddenSize: number, seed: number) =>
  Float32Array.from({ length: count * hiddenSize }, (_, i) => Math.sin(i * (0.7 + seed / 100)) * 0.3)

/** Chunk after chunk, several under way, as a prompt goes through a circuit. */
async function prefill({ hiddenSize }: Pipeline, ring: Ring, nTokens: number): Promise<number> {
  const ends = { embed: async (ids: readonly number[]) => rowsOf(ids.length, hiddenSize, ids[0] ?? 0) }
  const chain = createRingChain(ring, () => ({
    span: { start: 0, end: 0 },
    address: null,
    ms: null,
    linkMs: null,
    reason: '',
  }))
  const startMs = performance.now()
  await sendRows(chain, ends, { ids: Array.from({ length: nTokens }, (_, i) => i), pos: 0, want: 1 })
  return performance.now() - startMs
}

/** Tokens a second of `count` sessions, each at its own pace. */
async function decode(pipeline: Pipeline, count: number): Promise<number> {
  const startMs = performance.now()
  await Promise.all(
    pipeline.rings.slice(0, count).map(async (ring, index) => {
      for (let i = 0; i < steps; i++) {
        await ring.forward({ pos: context + i, hidden: rowsOf(1, pipeline.hiddenSize, index + i), want: 1 })
      }
    }),
  )
  return (count * steps * 1_000) / (performance.now() - startMs)
}

async function close({ rings, entry, hops }: Pipeline): Promise<void> {
  for (const ring of rings) await ring.close()
  await entry.stop()
  for (const hop of hops) await hop.stop()
}

async function measure(name: string, folder: string): Promise<readonly Pipeline[]> {
  const recipe = parseRecipe(name)
  const model = await createBenchModel(recipe)
  const pipelines: Pipeline[] = []
  try {
    for (const count of nodeCounts) pipelines.push(await openPipeline(model, recipe, count, folder))
    // In turns, so that a slow minute of the machine meets all of them.
    for (let round = 0; round < rounds; round++) {
      for (const pipeline of pipelines) {
        const [first] = pipeline.rings
        if (first !== undefined) pipeline.prefillMs.push(await prefill(pipeline, first, promptTokens))
        for (const ring of pipeline.rings) await prefill(pipeline, ring, context)
        pipeline.tps1.push(await decode(pipeline, 1))
        pipeline.tps8.push(await decode(pipeline, nSessions))
      }
    }
  } finally {
    for (const pipeline of pipelines) await close(pipeline)
    await rm(model.folder, { recursive: true, force: true })
  }
  return pipelines
}

const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-'))
const figures: Record<string, number> = {}
try {
  console.log(
    `nodes, 1 thread each     tokens/s of 1 session    of ${nSessions}     prefill of ${promptTokens}, tokens/s`,
  )
  for (const name of ['q4', 'i8']) {
    const results = await measure(name, folder)
    for (const [i, count] of nodeCounts.entries()) {
      const { tps1 = [], tps8 = [], prefillMs = [] } = results[i] ?? {}
      const cells = [median(tps1), median(tps8), (promptTokens * 1_000) / median(prefillMs)]
      console.log(`${name} ${count}${' '.repeat(12)}${cells.map((value) => value.toFixed(1).padStart(16)).join('')}`)
      figures[`tps1_${name}_${count}`] = median(tps1)
      figures[`tps8_${name}_${count}`] = median(tps8)
      figures[`prefillMs_${name}_${count}`] = median(prefillMs)
    }
    const of = (key: string, count: number) => figures[`${key}_${name}_${count}`] ?? Number.NaN
    figures[`pipelineRatio2_${name}`] = of('tps1', 2) / of('tps1', 1)
    figures[`pipelineGain8x2_${name}`] = of('tps8', 2) / of('tps8', 1)
    figures[`prefillGain2_${name}`] = of('prefillMs', 1) / of('prefillMs', 2)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
for (const key of ['pipelineRatio2', 'pipelineGain8x2', 'prefillGain2']) {
  const [q4 = Number.NaN, i8 = Number.NaN] = [figures[`${key}_q4`], figures[`${key}_i8`]]
  figures[key] = Math.max(q4, i8)
  console.log(`${key.padEnd(16)} ${q4.toFixed(2)} (q4)  ${i8.toFixed(2)} (i8)`)
}
const rounded = Object.entries(figures).map(([key, value]) => [key, Math.round(value * 100) / 100])
reportFigures('pipeline', Object.fromEntries(rounded), options)
