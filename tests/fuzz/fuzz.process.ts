/**
 * `npm run fuzz -- [--seconds N] [--target NAME] [--seed N]`: fuzzes for N seconds of processor time (default 60), always
 * the target that has had the least so far. What is found grows .fuzz/ (not in git); the smallest inputs that reach every
 * place go to tests/fuzz/corpus, the sums to tests/fuzz/results.json, so that hours add up. Ends with 1 on a finding.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { createRandom } from '../../src/base/random.ts'
import { startAllocationMeter } from './allocation.ts'
import { corpusFile, readCorpus, writeCorpus } from './corpus.ts'
import { distil, fuzz, nameOf } from './fuzzer.ts'
import { startCoverage } from './instrument.ts'
import type { FuzzTarget } from './target.ts'

/** One turn of a target; after it the state is on disk. */
const TURN_S = 60
/** A single run beyond this is a hang: the input is written down and the process ends. */
const HANG_MS = 20_000
const MAX_INPUT = 8_192
const RESULTS = new URL('results.json', import.meta.url)

interface Result {
  cpuSeconds: number
  runs: number
  /** Places in src/ that were reached, each with how often as a power of two; comparisons come on top in `features`. */
  places: number
  features: number
  corpus: number
  findings: number
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function readResults(): Record<string, Result> {
  try {
    return JSON.parse(readFileSync(RESULTS, 'utf8')) as Record<string, Result>
  } catch {
    return {}
  }
}

/** Literals of the sources: words that parsers compare with. */
function wordsOf(target: FuzzTarget): Uint8Array[] {
  const sources = [
    'onion/ops',
    'onion/control',
    'coverage/advert',
    'coverage/gossip-messages',
    'p2p/address',
    'p2p/invite',
    'shard/safetensors',
  ]
  const text = sources.map((name) => readFileSync(new URL(`../../src/${name}.ts`, import.meta.url), 'utf8')).join('\n')
  const literals = Array.from(
    text.matchAll(/'([^'\n]{2,24})'|\b([A-Z][A-Z0-9_]{1,8}):/g),
    ([, quoted, word]) => quoted ?? word ?? '',
  )
  const seeds = target.seeds().flatMap((seed) => [seed.subarray(0, 8), seed.subarray(-8)])
  return [...[...new Set(literals)].map((word) => Uint8Array.from(Buffer.from(word))), ...seeds]
}

/** Looks from another thread whether a run has ended: an endless loop cannot be seen from within. */
function startWatchdog(name: string): (input: Uint8Array) => void {
  const shared = new SharedArrayBuffer(16 + MAX_INPUT)
  const [counters, bytes] = [new Int32Array(shared, 0, 2), new Uint8Array(shared, 16)]
  const code = `const { workerData: { shared, name, ms } } = require('node:worker_threads')
    const counters = new Int32Array(shared, 0, 2)
    let last = -1
    setInterval(() => {
      if (counters[0] === last && last > 0) {
        const input = Buffer.from(new Uint8Array(shared, 16, counters[1])).toString('base64')
        process.stdout.write(name + ' hangs on ' + input + '\\n')
        process.exitCode = 1
        process.kill(process.pid, 'SIGKILL')
      }
      last = counters[0]
    }, ms)`
  new Worker(code, { eval: true, workerData: { shared, name, ms: HANG_MS } }).unref()
  return (input) => {
    bytes.set(input.subarray(0, MAX_INPUT))
    counters[1] = input.length
    counters[0] = (counters[0] ?? 0) + 1
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '60' }, target: { type: 'string' }, seed: { type: 'string' } },
  })
  const coverage = startCoverage()
  const { fuzzTargets } = await import('./targets.ts')
  const chosen = fuzzTargets.filter(({ name }) => values.target === undefined || name === values.target)
  if (chosen.length === 0)
    throw new Error(`there is no target ${values.target}; there are ${fuzzTargets.map(({ name }) => name).join(' ')}`)
  const meter = startAllocationMeter()
  const seed = Number(values.seed ?? (Date.now() % 0x7fff_ffff) + 1)
  const random = createRandom(seed)
  const endS = cpuSeconds() + Number(values.seconds)
  say(`seed ${seed}`)
  while (cpuSeconds() < endS) {
    const results = readResults()
    const [target] = [...chosen].sort((a, b) => (results[a.name]?.cpuSeconds ?? 0) - (results[b.name]?.cpuSeconds ?? 0))
    if (target === undefined) return
    const failed = turn(target, { coverage, meter, random, untilS: Math.min(endS, cpuSeconds() + TURN_S) })
    if (failed) process.exitCode = 1
    if (failed) return
  }
}

function turn(
  target: FuzzTarget,
  deps: {
    coverage: ReturnType<typeof startCoverage>
    meter: ReturnType<typeof startAllocationMeter>
    random: () => number
    untilS: number
  },
): boolean {
  const { coverage, meter, random, untilS } = deps
  const { name } = target
  const grown = new URL(`../../.fuzz/${name}.txt`, import.meta.url).pathname
  const startS = cpuSeconds()
  const session = fuzz(target, {
    coverage,
    meter,
    random,
    words: wordsOf(target),
    corpus: [...readCorpus(corpusFile(name)), ...readCorpus(grown)],
    more: () => cpuSeconds() < untilS,
    onInput: watch(name),
  })
  const { finding, runs, places, features } = session
  writeCorpus(grown, session.corpus)
  const kept = distil(target, session.corpus, { coverage, maxInputs: 96, maxBytes: 24_576 })
  writeCorpus(corpusFile(name), kept)
  const results = readResults()
  const before = results[name]
  const result: Result = {
    cpuSeconds: Math.round((before?.cpuSeconds ?? 0) + cpuSeconds() - startS),
    runs: (before?.runs ?? 0) + runs,
    places,
    features,
    corpus: session.corpus.length,
    findings: (before?.findings ?? 0) + (finding === undefined ? 0 : 1),
  }
  const sorted = Object.entries({ ...results, [name]: result }).sort(([a], [b]) => (a < b ? -1 : 1))
  writeFileSync(RESULTS, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`)
  say(
    `${name}: ${result.cpuSeconds} s in all, ${runs} runs in this turn, ${places} places, ${session.corpus.length} inputs kept`,
  )
  if (finding === undefined) return false
  say(`FOUND ${nameOf(finding.input)} ${Buffer.from(finding.input).toString('base64')}`)
  say(finding.error instanceof Error ? (finding.error.stack ?? finding.error.message) : String(finding.error))
  return true
}

const watchers = new Map<string, (input: Uint8Array) => void>()
/** One watchdog is enough; it knows the last name. */
function watch(name: string): (input: Uint8Array) => void {
  const known = watchers.get('') ?? startWatchdog(name)
  watchers.set('', known)
  return known
}

await main()
