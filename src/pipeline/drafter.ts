import { pipelineLimits } from '../base/limits.ts'
import { proposeDraft } from './draft.ts'

/** Decides how many tokens to guess ahead, from what guessing has brought so far. Never changes a token (generate.ts). */
export interface Drafter {
  /** Ids sent ahead of their draw so far, and those of them that were then drawn. */
  readonly drafted: number
  readonly accepted: number
  /** Ids that may follow the transcript, at most `room`; often none. */
  propose(transcript: readonly number[], room: number): readonly number[]
  /** What became of a step with `drafted` guessed rows: `accepted` of them were right, and it took `ms`. */
  learn(step: { drafted: number; accepted: number; ms: number }): void
}

/**
 * Numbers of rows that are guessed: with the row of the last token they make an even number, as q4 and q8 compute anyway
 * (engine.md §6), and few lengths of buffers.
 */
const RUNGS: readonly number[] = [0, 1, 3, pipelineLimits.draftRows]
/** Before anything is measured: half of the guesses right, and 3 % of a step for each row (engine.md §3, §6). */
const FIRST_ACCEPTANCE = 0.5
const FIRST_WEIGHT = 2
const ROW_COST = 0.03
/** Share of the past that counts after each step: the last twenty steps or so decide. */
const MEMORY = 0.95
const MS_WEIGHT = 0.25
/** One step with a guess in so many is made in another way than the best known one, or what was bad once stays so. */
const RETRY_EVERY = 16

export function createDrafter(): Drafter {
  const msOf = new Map<number, number>()
  let tested = FIRST_WEIGHT
  let right = FIRST_WEIGHT * FIRST_ACCEPTANCE
  let guesses = 0
  const counts = { drafted: 0, accepted: 0 }
  const acceptance = () => right / tested
  return {
    get drafted() {
      return counts.drafted
    },
    get accepted() {
      return counts.accepted
    },
    propose(transcript, room) {
      const most = RUNGS.findLast((rung) => rung <= room) ?? 0
      if (most === 0) return []
      const guess = proposeDraft(transcript, most)
      if (guess.length === 0) return guess
      guesses++
      const best = bestRung(msOf, acceptance())
      const rung = guesses % RETRY_EVERY === 0 ? neighbourOf(best) : best
      return guess.slice(0, rung)
    },
    learn({ drafted, accepted, ms }) {
      counts.drafted += drafted
      counts.accepted += accepted
      const known = msOf.get(drafted)
      // One step that met a pause says nothing about the next one.
      msOf.set(drafted, known === undefined ? ms : known + MS_WEIGHT * (Math.min(ms, 3 * known) - known))
      if (drafted === 0) return
      tested = MEMORY * tested + Math.min(drafted, accepted + 1)
      right = MEMORY * right + accepted
    },
  }
}

/** The number of guessed rows that promises the most tokens per ms. */
export function bestRung(msOf: ReadonlyMap<number, number>, acceptance: number): number {
  let best = 0
  let bestRate = 0
  for (const rung of RUNGS) {
    const rate = tokensPerStep(rung, acceptance) / stepMs(msOf, rung)
    if (rate > bestRate) {
      best = rung
      bestRate = rate
    }
  }
  return best
}

/** 1 + a + a² + … + aᵏ: the row of the last token always brings one, each guess one more while all before are right. */
function tokensPerStep(rung: number, acceptance: number): number {
  let tokens = 1
  for (let power = acceptance, row = 0; row < rung; row++, power *= acceptance) tokens += power
  return tokens
}

/** Measured, or from the nearest measured rung. */
function stepMs(msOf: ReadonlyMap<number, number>, rung: number): number {
  let nearest: number | undefined
  for (const known of msOf.keys()) {
    if (nearest === undefined || Math.abs(known - rung) < Math.abs(nearest - rung)) nearest = known
  }
  const ms = nearest === undefined ? 1 : (msOf.get(nearest) ?? 1)
  return (ms * (1 + ROW_COST * rung)) / (1 + ROW_COST * (nearest ?? 0))
}

/** One rung down, so that what less costs stays known; from nothing one rung up. */
function neighbourOf(rung: number): number {
  const at = RUNGS.indexOf(rung)
  return RUNGS[at === 0 ? 1 : at - 1] ?? 0
}
