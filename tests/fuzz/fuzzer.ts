import { createHash } from 'node:crypto'
import type { AllocationMeter } from './allocation.ts'
import type { Coverage } from './instrument.ts'
import { createMutator } from './mutate.ts'
import { BrokenPromise, type FuzzTarget } from './target.ts'

/** One parser call that takes more processor time is a finding, when it does so three times. */
const SLOW_MS = 250
const MAX_CORPUS = 4_000

export interface Session {
  readonly runs: number
  /** Inputs that each did something that none before did. */
  readonly corpus: readonly Uint8Array[]
  readonly places: number
  readonly features: number
  readonly finding: { readonly input: Uint8Array; readonly error: unknown } | undefined
}

export interface SessionOptions {
  readonly corpus: readonly Uint8Array[]
  readonly words: readonly Uint8Array[]
  readonly random: () => number
  readonly coverage: Coverage
  readonly meter: AllocationMeter
  /** Asked after every 64 runs. */
  more(): boolean
  /** What is being run, for a watchdog. */
  onInput(input: Uint8Array): void
}

/** Coverage-guided: what does something new is kept and mutated further. Ends at the first finding. */
export function fuzz(target: FuzzTarget, options: SessionOptions): Session {
  const { coverage, random } = options
  const seen = new Uint8Array(coverage.total)
  const corpus: Uint8Array[] = []
  let runs = 0
  let places = 0
  let features = 0
  let finding: Session['finding']
  const tryOut = (input: Uint8Array) => {
    runs++
    options.onInput(input)
    coverage.reset()
    const error = attempt(target, input, options.meter)
    if (error !== undefined) finding = { input: shrink(target, input, options), error }
    let fresh = false
    coverage.features((feature) => {
      if (seen[feature] !== 0) return
      seen[feature] = 1
      features++
      if (feature < coverage.edges) places++
      fresh = true
    })
    if (fresh && corpus.length < MAX_CORPUS) corpus.push(input)
  }
  for (const input of [...target.seeds(), ...options.corpus]) if (finding === undefined) tryOut(input)
  const mutator = createMutator(random, target.maxBytes, options.words)
  const pick = () => {
    const recent = random() % 2 === 0 ? Math.min(32, corpus.length) : corpus.length
    return corpus[corpus.length - 1 - (random() % Math.max(1, recent))] ?? new Uint8Array(0)
  }
  while (finding === undefined && (runs % 64 !== 0 || options.more())) tryOut(mutator.mutate(pick(), pick()))
  return { runs, corpus, places, features, finding }
}

/** What is wrong with this input; undefined: nothing. */
export function attempt(target: FuzzTarget, input: Uint8Array, meter: AllocationMeter): unknown {
  const allowed = target.maxAllocated?.(input.length) ?? 65_536 + 64 * input.length
  let fastest = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3 && fastest > SLOW_MS; i++) {
    // A copy: a parser that writes into its input must not change the corpus.
    const copy = Uint8Array.from(input)
    const started = process.cpuUsage()
    meter.reset()
    try {
      target.run(copy)
    } catch (error) {
      return error
    }
    if (meter.bytes > allowed) return new BrokenPromise(`${meter.bytes} bytes allocated, ${allowed} allowed`)
    const { user, system } = process.cpuUsage(started)
    const tookMs = (user + system) / 1_000
    if (tookMs <= SLOW_MS) return undefined
    fastest = Math.min(fastest, tookMs)
  }
  return new BrokenPromise(`took ${Math.round(fastest)} ms three times`)
}

/** The same finding with less input, as far as leaving out pieces goes. */
function shrink(target: FuzzTarget, input: Uint8Array, { meter }: SessionOptions): Uint8Array {
  let best = input
  for (let size = Math.ceil(best.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.length; ) {
      const shorter = Uint8Array.from(Buffer.concat([best.subarray(0, at), best.subarray(at + size)]))
      if (attempt(target, shorter, meter) !== undefined) best = shorter
      else at += size
    }
  }
  return best
}

/** The smallest inputs that together reach every place, for the repository; at most `maxInputs` and `maxBytes`. */
export function distil(
  target: FuzzTarget,
  corpus: readonly Uint8Array[],
  options: { coverage: Coverage; maxInputs: number; maxBytes: number },
): Uint8Array[] {
  const { coverage, maxInputs, maxBytes } = options
  const seen = new Uint8Array(coverage.edges)
  const kept: Uint8Array[] = []
  let bytes = 0
  for (const input of [...corpus].sort((a, b) => a.length - b.length)) {
    if (kept.length >= maxInputs || bytes + input.length > maxBytes) break
    coverage.reset()
    try {
      target.run(Uint8Array.from(input))
    } catch {
      continue
    }
    let fresh = false
    coverage.features((feature) => {
      // How often a place is reached does not count here.
      const place = feature - (feature % 8)
      if (feature >= coverage.edges || seen[place] !== 0) return
      seen[place] = 1
      fresh = true
    })
    if (!fresh) continue
    kept.push(input)
    bytes += input.length
  }
  return kept
}

export function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 12)
}
