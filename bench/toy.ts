/**
 * A 4-layer, 842K-parameter model (hidden 128) on two hops over loopback: three processes, onion on, against the same
 * layers in one process. Centram's published figures for that size: 7.61 ms split, 1.72 ms single, 57.9 % network.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadLayers } from './lib/bench-node.ts'
import { benchOptions, median, quantile, reportFigures } from './lib/harness.ts'
import { writeRandomModel } from './lib/random-model.ts'
import { openSplitPipeline } from './lib/split-pipeline.ts'

const options = benchOptions()
/** A short conversation: each round begins at position 0 again. */
const STEPS = 300
const ROUNDS = options.quick ? 3 : 15
const folder = await mkdtemp(join(tmpdir(), 'llm-node-toy-'))
const model = join(folder, 'toy')
const parameters = await writeRandomModel(model, {
  nLayers: 4,
  hiddenSize: 128,
  nHeads: 4,
  nKvHeads: 4,
  headDim: 32,
  intermediateSize: 368,
  vocabSize: 103,
  maxContext: 2048,
})
const maxContext = STEPS
const recipe = 'f32/1'

const whole = await loadLayers(model, join(folder, 'whole'), { recipe, span: { start: 0, end: 4 }, threads: 1 })
const session = whole.runner.openSession({ span: { start: 0, end: 4 }, maxContext })
const spans = [
  { start: 0, end: 2 },
  { start: 2, end: 4 },
]
const pipeline = await openSplitPipeline({ model, recipe, spans, threads: 1, maxContext })
const row = Float32Array.from({ length: 128 }, (_, i) => Math.sin(i * 0.37))

/** Runs `STEPS` decode steps one after the other and collects their times in ms. */
async function decode(step: (pos: number) => Promise<unknown>, into: number[]): Promise<void> {
  for (let pos = 0; pos < STEPS; pos++) {
    const startedMs = performance.now()
    await step(pos)
    into.push(performance.now() - startedMs)
  }
}

const split: number[] = []
const single: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  await decode((pos) => session.forward(pos, row), single)
  await decode((pos) => pipeline.ring.forward({ pos, hidden: row, want: 1 }), split)
}
const computeMs = (await pipeline.hopComputeMs()).reduce((sum, ms) => sum + ms, 0)
await pipeline.close()
session.close()
await whole.runner.close()
await rm(folder, { recursive: true, force: true })

const splitMs = median(split)
const singleMs = median(single)
const networkShare = 1 - computeMs / (split.reduce((sum, ms) => sum + ms, 0) / split.length)
console.log(`${parameters} parameters, 4 layers, hidden 128, ${ROUNDS * STEPS} decode steps each, in turns\n`)
console.log('                      median    p95')
console.log(`split over two hops   ${splitMs.toFixed(2)} ms   ${quantile(split, 0.95).toFixed(2)} ms`)
console.log(`one process           ${singleMs.toFixed(2)} ms   ${quantile(single, 0.95).toFixed(2)} ms`)
console.log(`share of network      ${(100 * networkShare).toFixed(1)} %`)
console.log('Centram (published)   7.61 ms split, 1.72 ms single, 57.9 %')
reportFigures('toy', { splitMsPerToken: splitMs, singleMsPerToken: singleMs, networkShare }, options)
