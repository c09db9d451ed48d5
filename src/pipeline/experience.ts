import { toHex } from '../base/bytes.ts'

/**
 * What answers really took beside what was estimated from measured parts: links, waiting for each other and a busy machine
 * cost what no measurement of a part shows. Of one node, in memory; by model, and by whether others take part.
 */
export interface Experience {
  /** Ms that a token will take, from the estimate of its parts. */
  expect(asked: Asked, partsMs: number): number
  /** An answer begins. Call the result with what it came to, or with nothing when that is worth nothing. */
  begin(): (seen?: Seen) => void
}

export interface Asked {
  readonly modelId: Uint8Array
  readonly recipe: string
  /** Others compute some of the layers. */
  readonly split: boolean
}

export interface Seen extends Asked {
  readonly partsMs: number
  /** Ms that a token took. */
  readonly tookMs: number
}

/** Half of what is known comes from the last answer: what slowed that one down may be gone. */
const NEWEST = 0.5
/** An answer that took much longer than its parts was held up by something that says nothing about the next. */
const MOST = 2

export function createExperience(): Experience {
  const factors = new Map<string, number>()
  /** Answers that run, and whether each has been alone all the time: together they take longer than one does. */
  const running = new Set<{ alone: boolean }>()
  return {
    expect: (asked, partsMs) => partsMs * (factors.get(keyOf(asked)) ?? 1),
    begin() {
      const own = { alone: running.size === 0 }
      for (const other of running) other.alone = false
      running.add(own)
      return (seen) => {
        running.delete(own)
        if (seen === undefined || !own.alone || !(seen.partsMs > 0)) return
        const factor = Math.min(MOST, Math.max(1 / MOST, seen.tookMs / seen.partsMs))
        const before = factors.get(keyOf(seen)) ?? factor
        factors.set(keyOf(seen), before + NEWEST * (factor - before))
      }
    },
  }
}

function keyOf({ modelId, recipe, split }: Asked): string {
  return `${toHex(modelId)} ${recipe} ${split}`
}

/** Tokens per second: of this process alone, or over a chain with others. null: not possible, or not measured. */
export interface SpeedEstimate {
  readonly solo: number | null
  readonly split: number | null
}

/** What was to be expected of a chain; without experience what its parts come to. */
export function estimateOf(
  { modelId, recipe }: Pick<Asked, 'modelId' | 'recipe'>,
  { plan, partsMs }: Opened,
  experience: Pick<Experience, 'expect'> | undefined,
): SpeedEstimate {
  const split = plan.route !== undefined
  if (partsMs === null) return { solo: null, split: null }
  const rate = 1_000 / (experience?.expect({ modelId, recipe, split }, partsMs) ?? partsMs)
  return split ? { solo: null, split: rate } : { solo: rate, split: null }
}

/** An answer in plain steps shows what a token takes; guesses that were right, or a way that broke, do not. */
const FEWEST_TOKENS = 16

interface Opened {
  readonly plan: { readonly route: unknown }
  readonly partsMs: number | null
}

export interface Ended {
  readonly tokens: readonly number[]
  readonly tokensPerSecond: number | null
  readonly failovers: number
  readonly accepted: number
}

/** What an answer over a chain has shown; undefined: nothing. */
export function seenIn(
  { modelId, recipe }: Pick<Asked, 'modelId' | 'recipe'>,
  { plan, partsMs }: Opened,
  { tokens, tokensPerSecond, failovers, accepted }: Ended,
): Seen | undefined {
  if (partsMs === null || tokensPerSecond === null || tokens.length < FEWEST_TOKENS) return undefined
  if (failovers > 0 || accepted > 0) return undefined
  return { modelId, recipe, split: plan.route !== undefined, partsMs, tookMs: 1_000 / tokensPerSecond }
}
