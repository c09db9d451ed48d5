/**
 * Speed of one node's engine beside llama.cpp's, in turns in one run: decode and prefill of a Qwen3-0.6B-shaped model
 * (28 layers, head of 151,936), our recipes q4 and i8 against Q4_0, with one thread and with two. Every figure with
 * head and the choice of the most probable token. Ratios compare turns that follow each other: machines drift.
 */
import { rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { headBytes } from '../src/node/model-figures.ts'
import { declareLayer, packedFileBytes } from '../src/shard/pack.ts'
import { parseRecipe } from '../src/shard/recipe.ts'
import { type AskedProcess, startAsked } from './lib/asked-process.ts'
import { type BenchModel, createBenchModel } from './lib/bench-weights.ts'
import type { EngineChoice, EngineRequest } from './lib/engine.process.ts'
import { writeGguf } from './lib/gguf.ts'
import { type BenchOptions, benchOptions, median, reportFigures } from './lib/harness.ts'
import { installLlama } from './lib/llama-cpp.ts'
import { cpuFeatures, readBandwidth } from './lib/machine.ts'

const contexts = [128, 300, 1_900] as const
const prefillTokens = 512
const names = ['q4', 'i8', 'Q4_0'] as const
type Name = (typeof names)[number]

/** Medians of each turn. */
interface Turns {
  readonly decodeMs: Record<number, number[]>
  readonly prefillMs: number[]
  rssMB: number
  kvMB: number
}

/** An engine in its process, asked one thing at a time. */
class Engine {
  readonly name: Name
  readonly turns: Turns = { decodeMs: {}, prefillMs: [], rssMB: 0, kvMB: 0 }
  readonly #process: AskedProcess<EngineRequest>

  constructor(name: Name) {
    this.name = name
    this.#process = startAsked(name, new URL('lib/engine.process.ts', import.meta.url))
  }

  open(choice: EngineChoice): Promise<unknown> {
    return this.#process.ask({ do: 'open', choice })
  }

  async decode(context: number, steps: number): Promise<void> {
    const ms = (await this.#process.ask({ do: 'decode', context, steps })) as number[]
    this.turns.decodeMs[context] = [...(this.turns.decodeMs[context] ?? []), median(ms)]
  }

  async prefill(): Promise<void> {
    this.turns.prefillMs.push((await this.#process.ask({ do: 'prefill', nTokens: prefillTokens })) as number)
  }

  async close(): Promise<void> {
    Object.assign(this.turns, await this.#process.ask({ do: 'memory' }))
    await this.#process.close({ do: 'close' })
  }
}

async function measure(
  choices: Readonly<Partial<Record<Name, EngineChoice>>>,
  options: BenchOptions,
): Promise<Map<Name, Turns>> {
  const engines = names.filter((name) => choices[name] !== undefined).map((name) => new Engine(name))
  try {
    for (const engine of engines) {
      const choice = choices[engine.name]
      if (choice !== undefined) await engine.open(choice)
    }
    // The first one of each warms up.
    for (const engine of engines) await engine.decode(16, 2)
    for (let round = 0; round < (options.quick ? 1 : 3); round++) {
      for (const engine of engines) await engine.prefill()
      for (const context of contexts) {
        for (const engine of engines) await engine.decode(context, options.quick ? 12 : 32)
      }
    }
  } finally {
    for (const engine of engines) await engine.close()
  }
  return new Map(engines.map(({ name, turns }) => [name, turns]))
}

/** Median over turns of theirs / ours: above 1, ours is faster. */
function ratio(ours: readonly number[] = [], theirs: readonly number[] = []): number {
  return median(ours.map((ms, i) => (theirs[i] ?? Number.NaN) / ms))
}

function reportThreads(threads: number, results: ReadonlyMap<Name, Turns>): Record<string, number> {
  const figures: Record<string, number> = {}
  const theirs = results.get('Q4_0')
  for (const [name, turns] of results) {
    const decode = contexts.map((context) => median(turns.decodeMs[context] ?? []))
    const tps = (prefillTokens * 1_000) / median(turns.prefillMs)
    const prefillRatio = ratio(turns.prefillMs, theirs?.prefillMs)
    const cells = [`${threads} ${name}`.padEnd(8), ...decode.map((ms) => ms.toFixed(1).padStart(9))]
    cells.push(tps.toFixed(0).padStart(9), turns.rssMB.toFixed(0).padStart(9))
    const ratios = contexts.map((context) => ratio(turns.decodeMs[context], theirs?.decodeMs[context]))
    if (theirs !== undefined && turns !== theirs) {
      cells.push('   ', [...ratios, prefillRatio].map((one) => `${one.toFixed(2)}x`).join(' / '))
    }
    console.log(cells.join(''))
    for (const [i, context] of contexts.entries()) {
      figures[`decodeMs${context}_${name}_${threads}`] = decode[i] ?? Number.NaN
      if (turns !== theirs) figures[`decodeRatio${context}_${name}_${threads}`] = ratios[i] ?? Number.NaN
    }
    figures[`prefillTps_${name}_${threads}`] = tps
    if (turns !== theirs) figures[`prefillRatio_${name}_${threads}`] = prefillRatio
    figures[`rssMB_${name}_${threads}`] = turns.rssMB
    if (turns !== theirs) figures[`kvMB_${name}_${threads}`] = turns.kvMB
  }
  return figures
}

/** Bytes that a decode step reads: every weight of the layers and the head once. */
function weightsMB({ spec }: BenchModel, name: 'q4' | 'i8'): number {
  const recipe = parseRecipe(name)
  const layers = spec.layers.reduce((sum, layer) => sum + packedFileBytes(declareLayer(layer, recipe), recipe), 0)
  return (layers + headBytes(spec, recipe)) / 1e6
}

async function main(): Promise<void> {
  const options = benchOptions()
  const withLlama = installLlama()
  const all = availableParallelism()
  const models = { q4: await createBenchModel(parseRecipe('q4')), i8: await createBenchModel(parseRecipe('i8')) }
  const path = join(models.q4.folder, 'model.gguf')
  const figures: Record<string, number> = {}
  try {
    if (withLlama) await writeGguf(path, models.q4.spec)
    const [one, both] = [await readBandwidth(1), await readBandwidth(all)]
    console.log(`memory reads ${one.toFixed(0)} GB/s (1 thread), ${both.toFixed(0)} GB/s (${all})`)
    console.log(`${cpuFeatures().join(' ')}\n`)
    console.log('threads  decode ms at 128 / 300 / 1900   prefill tok/s  RSS MB   llama.cpp / ours: the same four')
    for (const threads of options.quick ? [all] : [1, all]) {
      const ours = (name: 'q4' | 'i8'): EngineChoice => ({
        kind: 'ours',
        model: models[name],
        recipe: parseRecipe(name),
        threads,
      })
      const { vocabSize } = models.q4.spec
      const theirs: EngineChoice = { kind: 'theirs', path, vocabSize, threads }
      const choices = { q4: ours('q4'), i8: ours('i8'), ...(withLlama && { Q4_0: theirs }) }
      Object.assign(figures, reportThreads(threads, await measure(choices, options)))
    }
    Object.assign(figures, { readGBs1: one, readGBs: both }, summary(figures, models, all, both))
  } finally {
    for (const { folder } of Object.values(models)) rmSync(folder, { recursive: true, force: true })
  }
  const rounded = Object.entries(figures).map(([key, value]) => [key, Math.round(value * 100) / 100])
  reportFigures('engine', Object.fromEntries(rounded), options)
}

/** The figures that goals are set for, with all threads; a decode goal is met by the better recipe. */
function summary(
  figures: Readonly<Record<string, number>>,
  models: { readonly q4: BenchModel; readonly i8: BenchModel },
  threads: number,
  readGBs: number,
): Record<string, number> {
  const of = (key: string) => figures[`${key}_${threads}`] ?? Number.NaN
  const share = (name: 'q4' | 'i8') => weightsMB(models[name], name) / of(`decodeMs128_${name}`) / readGBs
  /** engine.md §7: at most 1.2. */
  const rssShare = (name: 'q4' | 'i8') =>
    of(`rssMB_${name}`) / (weightsMB(models[name], name) + of(`kvMB_${name}`) + 120)
  for (const name of ['q4', 'i8'] as const) {
    const mb = weightsMB(models[name], name).toFixed(0)
    console.log(
      `${name}: ${mb} MB of weights a token, ${(100 * share(name)).toFixed(0)} % of the memory limit at 128; ` +
        `RSS is ${rssShare(name).toFixed(2)} of weights, KV and 120 MB`,
    )
  }
  const best = (context: number) => Math.max(of(`decodeRatio${context}_q4`), of(`decodeRatio${context}_i8`))
  return {
    decodeRatio128: best(128),
    decodeRatio300: best(300),
    decodeRatio1900: best(1_900),
    prefillRatio: of('prefillRatio_i8'),
    prefillRatioQ4: of('prefillRatio_q4'),
    memoryLimitShare: share('i8'),
    rssMB_q4: of('rssMB_q4'),
    rssMB_i8: of('rssMB_i8'),
    rssShare_q4: rssShare('q4'),
    rssShare_i8: rssShare('i8'),
  }
}

await main()
