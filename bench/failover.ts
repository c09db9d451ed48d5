/**
 * What a failover costs: a Qwen3-0.6B-shaped model over two nodes, each a process with one thread, and a replica of the
 * second. The second is killed after 1,000 tokens. Then both ways on: a new circuit, and what still stands cut and
 * extended again (onion/ring.ts, mend). Either way everything is computed again, for the rows that the first hop sent to
 * the dead one are nowhere else: the replay beside the prefill of the same tokens. A spare circuit saves the building.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ring } from '../src/onion/ring.ts'
import { createRingChain } from '../src/pipeline/chain.ts'
import { sendRows } from '../src/pipeline/send-rows.ts'
import { numericsClass } from '../src/shard/probe.ts'
import { parseRecipe } from '../src/shard/recipe.ts'
import { createBenchNode } from './lib/bench-node.ts'
import { createBenchModel } from './lib/bench-weights.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { benchModelId } from './lib/packed-hop.process.ts'
import { startPackedHop } from './lib/packed-hops.ts'

const options = benchOptions()
const TOKENS = 1_000
const rounds = options.quick ? 1 : 5
const recipe = parseRecipe('i8')
const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-'))
const model = await createBenchModel(recipe)
const { hiddenSize, nLayers } = model.spec
const spans = [
  { start: 0, end: nLayers / 2 },
  { start: nLayers / 2, end: nLayers },
] as const
const start = (span: (typeof spans)[number]) => startPackedHop({ model, recipe, span, threads: 1 })
const entry = await createBenchNode(join(folder, 'keys'))
const [first, replica] = await Promise.all([start(spans[0]), start(spans[1])])

const ends = {
  embed: async (ids: readonly number[]) =>
    Float32Array.from({ length: ids.length * hiddenSize }, (_, i) => Math.sin(i * 0.7 + (ids[0] ?? 0)) * 0.3),
}
const nowhere = { span: { start: 0, end: 0 }, address: null, ms: null, linkMs: null, reason: '' }
async function compute(ring: Ring): Promise<{ ms: number; row: Float32Array }> {
  const startedMs = performance.now()
  const ids = Array.from({ length: TOKENS }, (_, index) => index)
  const row = await sendRows(
    createRingChain(ring, () => nowhere),
    ends,
    { ids, pos: 0, want: 1 },
  )
  return { ms: performance.now() - startedMs, row }
}

const base = { modelId: benchModelId, numericsClass: await numericsClass(recipe), hiddenSize, maxContext: TOKENS + 8 }
const signal = AbortSignal.timeout(3_600_000)
const times = { prefill: [] as number[], found: [] as number[], build: [] as number[], mend: [] as number[] }
const replays = { build: [] as number[], mend: [] as number[] }
try {
  for (let round = 0; round < rounds; round++) {
    for (const way of ['build', 'mend'] as const) {
      const victim = await start(spans[1])
      const hops = [first.target, victim.target]
      const ring = await entry.onion.openRing({ ...base, hops, mendable: way === 'mend' }, { signal })
      const undisturbed = await compute(ring)
      times.prefill.push(undisturbed.ms)
      const step = { pos: TOKENS, hidden: await ends.embed([TOKENS]), want: 1 }
      const killedMs = performance.now()
      await victim.kill()
      await ring.forward(step).catch(() => {})
      const foundMs = performance.now()
      times.found.push(foundMs - killedMs)
      const next =
        way === 'build'
          ? await entry.onion.openRing({ ...base, hops: [first.target, replica.target] }, { signal })
          : await ring.mend({ keep: 1, hops: [replica.target] }, { signal })
      times[way].push(performance.now() - foundMs)
      const again = await compute(next)
      replays[way].push(again.ms)
      if (Buffer.compare(Buffer.from(again.row.buffer), Buffer.from(undisturbed.row.buffer)) !== 0) {
        throw new Error('the replay computed something else')
      }
      await next.close()
    }
  }
} finally {
  await entry.stop()
  await Promise.all([first.stop(), replica.stop()])
  await rm(model.folder, { recursive: true, force: true })
  await rm(folder, { recursive: true, force: true })
}

const figures = {
  prefillMs: median(times.prefill),
  replayMs: median(replays.build),
  replayRatio: median(replays.build) / median(times.prefill),
  foundMs: median(times.found),
  buildMs: median(times.build),
  mendMs: median(times.mend),
  mendedReplayMs: median(replays.mend),
  mendSaves: (median(times.build) - median(times.mend)) / (median(times.build) + median(replays.build)),
}
const show = (name: string, value: number, unit = 'ms') =>
  console.log(`${name.padEnd(44)} ${value.toFixed(1).padStart(9)} ${unit}`)
console.log(`0.6B-shaped, i8, two nodes with one thread each, ${TOKENS} tokens × ${rounds}\n`)
show('prefill', figures.prefillMs)
show('replay on a new circuit', figures.replayMs)
show('replay on a mended circuit', figures.mendedReplayMs)
show('until the death is noticed', figures.foundMs)
show('building a new circuit', figures.buildMs)
show('cutting and extending what stands', figures.mendMs)
show('mending saves of building and replay', 100 * figures.mendSaves, '%')
reportFigures('failover', figures, options)
