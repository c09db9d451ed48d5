/**
 * Tokens a second of one node for 1, 2, 4 and 8 sessions at a time, on a Qwen3-0.6B-shaped model (28 layers, head of
 * 151,936), our recipes q4 and i8, beside llama.cpp with as many sequences (Q4_0). Every session takes its steps at its
 * own pace, head and the choice of the most probable token included.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseRecipe } from '../src/shard/recipe.ts'
import { type AskedProcess, startAsked } from './lib/asked-process.ts'
import type { BatchChoice, BatchRequest } from './lib/batch.process.ts'
import { type BenchModel, createBenchModel } from './lib/bench-weights.ts'
import { writeGguf } from './lib/gguf.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { installLlama } from './lib/llama-cpp.ts'
import { cpuFeatures, readBandwidth } from './lib/machine.ts'

const counts = [1, 2, 4, 8] as const
const mostSessions = 8
/** Tokens that each session holds before its first step. */
const context = 128

class Engine {
  readonly name: string
  /** Tokens a second by number of sessions, one value for each round. */
  readonly rates = new Map<number, number[]>()
  readonly #process: AskedProcess<BatchRequest>

  constructor(name: string) {
    this.name = name
    this.#process = startAsked(name, new URL('lib/batch.process.ts', import.meta.url))
  }

  async open(choice: BatchChoice, maxContext: number): Promise<void> {
    await this.#process.ask({ do: 'open', choice, sessions: mostSessions, maxContext })
  }

  async decode(sessions: number, steps: number): Promise<void> {
    const rate = (await this.#process.ask({ do: 'decode', sessions, context, steps })) as number
    this.rates.set(sessions, [...(this.rates.get(sessions) ?? []), rate])
  }

  rate(sessions: number): number {
    return median(this.rates.get(sessions) ?? [])
  }

  async close(): Promise<void> {
    await this.#process.close({ do: 'close' })
  }
}

const options = benchOptions()
const [steps, rounds] = options.quick ? [12, 1] : [40, 3]
const models: BenchModel[] = []
const engines: Engine[] = []
const maxContext = context + steps + 8
try {
  for (const name of ['q4', 'i8']) {
    const recipe = parseRecipe(name)
    const model = await createBenchModel(recipe)
    models.push(model)
    const engine = new Engine(name)
    engines.push(engine)
    await engine.open({ kind: 'ours', model, recipe }, maxContext)
  }
  const [first] = models
  if (first !== undefined && installLlama()) {
    const path = join(first.folder, 'model.gguf')
    await writeGguf(path, first.spec)
    const theirs = new Engine('llama.cpp Q4_0')
    engines.push(theirs)
    await theirs.open({ kind: 'theirs', path, vocabSize: first.spec.vocabSize }, maxContext)
  }
  const bandwidth = await readBandwidth(2)
  // In turns, so that a slow minute of the machine meets all of them.
  for (let round = 0; round < rounds; round++) {
    for (const sessions of counts) for (const engine of engines) await engine.decode(sessions, steps)
  }
  console.log(`memory reads ${bandwidth.toFixed(0)} GB/s; ${cpuFeatures().join(' ')}; context ${context}\n`)
  console.log(`tokens/s at ${counts.join(', ')} sessions`)
  const figures: Record<string, number> = {}
  for (const engine of engines) {
    const cells = counts.map((sessions) => engine.rate(sessions).toFixed(1).padStart(8))
    console.log(`${engine.name.padEnd(15)}${cells.join('')}`)
    const key = engine.name.replace('llama.cpp ', '')
    for (const sessions of counts) figures[`tps${sessions}_${key}`] = Math.round(engine.rate(sessions) * 10) / 10
  }
  const ours = engines.slice(0, models.length)
  const best = (sessions: number) => Math.max(...ours.map((engine) => engine.rate(sessions)))
  figures.gain8 = best(8) / best(1)
  const theirs = engines[models.length]
  if (theirs !== undefined) figures.batch8Ratio = best(8) / theirs.rate(8)
  console.log(`\n8 sessions: ${figures.gain8.toFixed(2)} × the best of one`)
  if (figures.batch8Ratio !== undefined)
    console.log(`and ${figures.batch8Ratio.toFixed(2)} × llama.cpp with 8 sequences`)
  reportFigures('batch', figures, options)
} finally {
  for (const engine of engines) await engine.close()
  for (const { folder } of models) rmSync(folder, { recursive: true, force: true })
}
