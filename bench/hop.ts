/**
 * What one hop adds to a decode step beyond computing: the demo model's layers on 1, 2 and 3 hops over loopback, a
 * process each, onion on. Per hop: the link to it, opening, scheduling and sealing; the way back to the entry is shared
 * by the hops. Petals: 18 ms, mesh-llm 13, Centram 4.4 (their publications).
 */
import { fileURLToPath } from 'node:url'
import { benchOptions, median, quantile, reportFigures } from './lib/harness.ts'
import { openSplitPipeline, type SplitPipeline } from './lib/split-pipeline.ts'

const options = benchOptions()
/** A short conversation: each round begins at position 0 again. */
const STEPS = 300
const ROUNDS = options.quick ? 2 : 8
const model = fileURLToPath(new URL('../models/demo-qwen3', import.meta.url))
const cuts = [
  [0, 12],
  [0, 6, 12],
  [0, 4, 8, 12],
]

const pipelines: SplitPipeline[] = []
for (const bounds of cuts) {
  const spans = bounds.slice(1).map((end, i) => ({ start: bounds[i] ?? 0, end }))
  pipelines.push(await openSplitPipeline({ model, recipe: 'f32/1', spans, threads: 1, maxContext: STEPS }))
}
const row = Float32Array.from({ length: 128 }, (_, i) => Math.sin(i * 0.37))
const times: number[][] = pipelines.map(() => [])
// In turns, so that a slow minute of the machine meets all of them.
for (let round = 0; round < ROUNDS; round++) {
  for (const [index, { ring }] of pipelines.entries()) {
    for (let pos = 0; pos < STEPS; pos++) {
      const startedMs = performance.now()
      await ring.forward({ pos, hidden: row, want: 1 })
      times[index]?.push(performance.now() - startedMs)
    }
  }
}

console.log('hops  median step  p95       computing  beyond computing  per hop')
const perHop: number[] = []
for (const [index, pipeline] of pipelines.entries()) {
  const hops = index + 1
  const step = median(times[index] ?? [])
  const computing = (await pipeline.hopComputeMs()).reduce((sum, ms) => sum + ms, 0)
  perHop.push((step - computing) / hops)
  const cells = [step, quantile(times[index] ?? [], 0.95), computing, step - computing, (step - computing) / hops]
  console.log(`${hops}     ${cells.map((ms) => `${ms.toFixed(2)} ms`.padEnd(11)).join('')}`)
}
for (const pipeline of pipelines) await pipeline.close()
reportFigures('hop', { hopOverheadMs: perHop.at(-1) ?? Number.NaN }, options)
