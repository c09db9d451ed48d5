/**
 * How the swarm grows (swarm.md §6): the code of src/coverage with 10 to 10,000 nodes on virtual time. Half of the nodes are
 * replaced in an hour, half of those that leave do so without a word; 5 % lie, 20 % cannot be dialled. Bytes are counted
 * with the headers of TCP/IP, yamux and noise. `--svg=FILE` draws the plot, `--size=N` simulates one size only.
 * `--keep=FILE` writes down each size as soon as it is done, and takes from it what has been done before: the larger ones
 * take half an hour. 10,000 nodes know each other when it begins, and only newcomers join: `--standing=N` for those of N and more.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { benchOptions, currentCommit, quantile, reportFigures } from './lib/harness.ts'
import { plotLines } from './lib/line-plot.ts'
import { type SwarmFigures, simulateSwarm } from './lib/sim-swarm.ts'

const flag = (name: string) => process.argv.find((text) => text.startsWith(`--${name}=`))?.slice(name.length + 3)
const MINUTE = 60_000
/** So many know each other when it begins; only newcomers and those who take others' places join. */
const STANDING = Number(flag('standing') ?? 10_000)
const options = benchOptions()
const only = flag('size')
const sizes = only !== undefined ? [Number(only)] : options.quick ? [10, 50] : [10, 100, 1_000, 10_000]

interface Done extends SwarmFigures {
  readonly commit: string
}

const keep = flag('keep')
/** By size. */
const readKept = async () =>
  JSON.parse(keep === undefined ? '{}' : await readFile(keep, 'utf8').catch(() => '{}')) as Record<string, Done>

/** What runs is what was there at the start. */
const commit = currentCommit()
const results: Done[] = []
for (const size of sizes) {
  const before = (await readKept())[size]
  if (before !== undefined) {
    results.push(before)
    continue
  }
  const startedMs = performance.now()
  const figures = await simulateSwarm({
    size,
    joinMs: options.quick ? MINUTE / 2 : 2 * MINUTE,
    standing: size >= STANDING,
    settleMs: options.quick || size >= 10_000 ? MINUTE / 2 : MINUTE,
    // A large swarm shows in a minute what a small one shows in ten.
    measureMs: options.quick ? MINUTE : size >= 10_000 ? MINUTE : 3 * MINUTE,
    newcomers: options.quick ? 5 : 20,
    requests: 500,
    seed: 2026,
  })
  const done = { ...figures, commit }
  results.push(done)
  // Read again: another process may have done another size meanwhile.
  if (keep !== undefined) await writeFile(keep, `${JSON.stringify({ ...(await readKept()), [size]: done })}\n`)
  console.error(`${size} nodes: ${figures.events} events in ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`)
}

const seconds = (ms: number) => (ms / 1_000).toFixed(1)
const median = (ms: readonly number[]) => (ms.length === 0 ? '-' : seconds(quantile(ms, 0.5)))
const percent = (share: number) => `${(100 * share).toFixed(1)} %`
const COLUMNS: readonly (readonly [title: string, value: (figures: Done) => string])[] = [
  ['nodes', ({ size }) => String(size)],
  ['coverage s', ({ coverageMs }) => median(coverageMs)],
  ['slowest s', ({ coverageMs }) => seconds(Math.max(...coverageMs))],
  ['95 % known s', ({ knowledgeMs }) => median(knowledgeMs)],
  ['KB/node/min', ({ bytesPerMinute }) => (bytesPerMinute / 1_000).toFixed(1)],
  ['most', ({ mostBytesPerMinute }) => (mostBytesPerMinute / 1_000).toFixed(0)],
  ['ghosts s', ({ ghostMs, deaths }) => `${seconds(ghostMs)} (${deaths})`],
  ['not seen', ({ missing }) => percent(missing)],
  ['known', ({ entries }) => entries.toFixed(0)],
  ['neighbours', ({ neighbours }) => neighbours.toFixed(1)],
  ['served 1st', ({ servedFirst }) => percent(servedFirst)],
  ['in three', ({ served }) => percent(served)],
  ['busiest/mean', ({ busiest }) => busiest.toFixed(1)],
  ['commit', ({ commit }) => commit],
]
console.log(
  'Sent by a node and minute (received: the same on average); ghosts: longest, of how many that died wordless\n',
)
const rows = [COLUMNS.map(([title]) => title), ...results.map((figures) => COLUMNS.map(([, value]) => value(figures)))]
for (const row of rows) console.log(row.map((cell) => cell.padStart(13)).join(''))

const svg = flag('svg')
if (svg !== undefined) {
  const lines = [
    { name: 'KB a node and minute', points: results.map((f) => [f.size, f.bytesPerMinute / 1_000] as const) },
    { name: 'coverage known, s', points: results.map((f) => [f.size, Math.max(...f.coverageMs) / 1_000] as const) },
    { name: 'peers kept', points: results.map((f) => [f.size, f.entries] as const) },
  ]
  await writeFile(svg, plotLines('A swarm of 10 to 10,000 nodes', { x: 'nodes', y: '' }, lines))
}

const of = (size: number) => results.find((figures) => figures.size === size)
const [thousand, tenThousand] = [of(1_000), of(10_000)]
reportFigures(
  'swarm-sim',
  {
    ...(thousand === undefined
      ? {}
      : {
          coverageSeconds1000: Math.max(...thousand.coverageMs) / 1_000,
          bytesPerNodeMinute1000: Math.round(thousand.bytesPerMinute),
        }),
    ...(tenThousand === undefined ? {} : { bytesPerNodeMinute10000: Math.round(tenThousand.bytesPerMinute) }),
  },
  options,
)
