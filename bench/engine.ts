/**
 * Speed of one node's engine: decode and prefill of a Qwen3-0.6B-shaped model (28 layers, head of 151,936), recipes q4
 * and i8, at three lengths of context. Each recipe runs in a process of its own, so that its memory can be read.
 */
import { fork } from 'node:child_process'
import { rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { createModelEnds } from '../src/shard/ends.ts'
import { parseRecipe, type RecipeId } from '../src/shard/recipe.ts'
import { createSpanRunner } from '../src/shard/runner.ts'
import { type BenchModel, createBenchModel } from './lib/bench-weights.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { cpuFeatures, readBandwidth } from './lib/machine.ts'

interface RecipeFigures {
  readonly decodeMs128: number
  readonly decodeMs300: number
  readonly decodeMs1900: number
  /** Of decodeMs300: the head. */
  readonly headMs: number
  readonly prefillTps: number
  readonly rssMB: number
  /** Bytes of layers and head as they lie on the disk. */
  readonly weightsMB: number
  readonly kvMB: number
}

const threads = availableParallelism()
const contexts = [128, 300, 1_900] as const

async function measure(model: BenchModel, recipe: RecipeId, steps: number): Promise<RecipeFigures> {
  const { spec, layerFiles, endsFile } = model
  const { hiddenSize } = spec
  const span = { start: 0, end: spec.nLayers }
  const runner = await createSpanRunner({ spec, recipe, span, layerFiles, threads, kvBudgetBytes: 2 ** 31 })
  const ends = await createModelEnds({ spec, recipe, endsFile, threads })
  const rows = (count: number) => Float32Array.from({ length: count * hiddenSize }, (_, i) => Math.sin(i * 0.7) * 0.3)
  const session = runner.openSession({ span, maxContext: 2_047 })
  await session.forward(0, rows(128))
  const prefillMs: number[] = []
  for (let i = 0; i < (steps > 20 ? 5 : 2); i++) {
    const startMs = performance.now()
    const hidden = await session.forward(0, rows(512))
    await ends.logits(hidden.slice(hidden.length - hiddenSize))
    prefillMs.push(performance.now() - startMs)
  }
  const decode = async (context: number) => {
    if (session.length < context) await session.forward(session.length, rows(context - session.length))
    const all: number[] = []
    const head: number[] = []
    for (let i = 0; i < steps; i++) {
      const startMs = performance.now()
      const hidden = await session.forward(context, rows(1))
      const headStartMs = performance.now()
      await ends.logits(hidden)
      head.push(performance.now() - headStartMs)
      all.push(performance.now() - startMs)
    }
    return { ms: median(all), headMs: median(head) }
  }
  const [short, middle, long] = [await decode(contexts[0]), await decode(contexts[1]), await decode(contexts[2])]
  const { rss } = process.memoryUsage()
  const { weightsBytes, kvBytes } = runner.memory()
  const headBytes =
    recipe === 'i8/1' ? spec.vocabSize * (hiddenSize + 4) : spec.vocabSize * hiddenSize * (0.5 + 4 / 128)
  await Promise.all([runner.close(), ends.close()])
  return {
    decodeMs128: short.ms,
    decodeMs300: middle.ms,
    decodeMs1900: long.ms,
    headMs: middle.headMs,
    prefillTps: 512_000 / median(prefillMs),
    rssMB: rss / 1e6,
    weightsMB: (weightsBytes + headBytes) / 1e6,
    kvMB: kvBytes / 1e6,
  }
}

/** In a process of its own, which never saw the weights being made. */
async function measureApart(recipe: RecipeId, steps: number): Promise<RecipeFigures> {
  const model = await createBenchModel(recipe)
  try {
    const child = fork(new URL(import.meta.url), ['--child'], { stdio: 'inherit' })
    return await new Promise<RecipeFigures>((resolve, reject) => {
      child.once('message', (figures) => resolve(figures as RecipeFigures))
      child.once('exit', (code) => reject(new Error(`the bench of ${recipe} ended with ${code}`)))
      child.send({ model, recipe, steps })
    })
  } finally {
    rmSync(model.folder, { recursive: true, force: true })
  }
}

async function main(): Promise<void> {
  const options = benchOptions()
  const steps = options.quick ? 12 : 60
  const [one, all] = [await readBandwidth(1), await readBandwidth(threads)]
  console.log(
    `memory reads ${one.toFixed(0)} GB/s (1 thread), ${all.toFixed(0)} GB/s (${threads}); ${cpuFeatures().join(' ')}\n`,
  )
  console.log('recipe  decode ms at 128 / 300 / 1900   head ms   prefill tok/s   weights MB   KV MB   RSS MB   reads')
  const figures: Record<string, number> = {}
  for (const name of ['q4', 'i8'] as const) {
    const f = await measureApart(parseRecipe(name), steps)
    // Every decode step reads all weights once.
    const share = f.weightsMB / f.decodeMs300 / all
    const decode = [f.decodeMs128, f.decodeMs300, f.decodeMs1900].map((ms) => ms.toFixed(1)).join(' / ')
    const cells = [
      decode.padEnd(31),
      f.headMs.toFixed(2),
      f.prefillTps.toFixed(0),
      f.weightsMB.toFixed(0),
      f.kvMB.toFixed(0),
    ]
    console.log([name.padEnd(7), ...cells, f.rssMB.toFixed(0), `${(100 * share).toFixed(0)} % of the limit`].join('  '))
    for (const [key, value] of Object.entries(f)) figures[`${key}_${name}`] = round(value)
  }
  for (const key of ['decodeMs128', 'decodeMs300', 'decodeMs1900', 'prefillTps', 'rssMB']) {
    const [q4 = 0, i8 = 0] = [figures[`${key}_q4`], figures[`${key}_i8`]]
    figures[key] = key === 'prefillTps' ? Math.max(q4, i8) : Math.min(q4, i8)
  }
  reportFigures('engine', { ...figures, readGBs1: round(one), readGBs: round(all) }, options)
}

const round = (value: number) => Math.round(value * 100) / 100

if (process.argv[2] === '--child') {
  process.once('message', async ({ model, recipe, steps }: { model: BenchModel; recipe: RecipeId; steps: number }) => {
    process.send?.(await measure(model, recipe, steps))
    process.disconnect()
  })
} else await main()
