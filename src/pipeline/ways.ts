import { type ErrorCode, isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { AskedProfile } from '../coverage/path.ts'
import type { RingCall } from '../onion/ring.ts'
import {
  type ChainPlan,
  type ChainRequest,
  type EntryDeps,
  type EntryModel,
  type OpenedChain,
  openPlan,
  planChain,
  stopsOf,
} from './entry.ts'
import { AVOIDED_MS, type Exclusions } from './exclusions.ts'

/** What the ways of an answer have in common, from the first one on. */
export interface Pinned {
  /** Hexadecimal; undefined: several from the start, or no ring. */
  readonly numericsClass: string | undefined
  readonly maxContext: number
  /** Decided by the first plan, before anything is sent: `auto` stays with it, whoever fails then. */
  readonly profile: AskedProfile
}

/** How an answer has begun, as far as it has. */
export interface Begun {
  readonly pinned: Pinned | undefined
  /** Of the first plan, before anything stands. */
  readonly profile: AskedProfile | undefined
  readonly longRope: boolean
  /** Who seems to be gone, by address: the far ends of links that broke since the answer last went on, or who holds it up. */
  readonly gone: ReadonlySet<string>
}

/** Plans the ways of one answer: around what has failed, and as it has begun. */
export interface Ways {
  /**
   * The best one; `gap`: somebody is missing. `spread`: takes turns among those that are about equally fast. `lastResort`: all
   * has failed, and what failed longest ago is to be tried first. Throws what planChain throws besides.
   */
  best(begun: Begun, options?: { spread?: boolean; lastResort?: boolean }): { plan?: ChainPlan; gap?: LlmNodeError }
  /** In any numerics class, without those that failed on `failed`. */
  inOtherClass(begun: Begun, failed: ChainPlan | undefined): ChainPlan | undefined
  /** With as few hops of `inUse` as possible; undefined: all would be the same, or something on it has failed. */
  beside(begun: Begun, inUse: ChainPlan | undefined, options?: BesideOptions): ChainPlan | undefined
  /** No link on it has failed lately, and nobody on it seems to be gone. */
  isSound(begun: Begun, plan: ChainPlan): boolean
  /** Throws what openPlan throws, and PEER_REFUSED when there is less room than the answer began with. */
  build(begun: Begun, plan: ChainPlan, call: RingCall): Promise<OpenedChain>
}

export interface BesideOptions {
  /** Addresses that must not be on it. */
  readonly without?: ReadonlySet<string>
  /** Only where there is room for many more. */
  readonly roomy?: boolean
  /** Rather over somebody who has failed than over a hop in use. */
  readonly lastResort?: boolean
  /** Who holds the way in use up is among those who seem gone: its other hops are as good as any. */
  readonly isHeldUp?: boolean
}

/** What somebody who comes may mend. */
const WAITED_FOR: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['COVERAGE_GAP', 'COVERAGE_FRAGMENTED', 'NO_RELAY'])

/** A hop of the way in use counts so much more beside it: taken only when nobody else, or as a last resort nobody, can. */
const SHARED_MS = AVOIDED_MS / 100
const LAST_SHARED_MS = 3 * AVOIDED_MS
/**
 * Who seems to be gone is not reached over another link either; rather two are tried that failed a while ago. For one answer
 * only: a hop that names others as gone, to be asked for somebody else, is out itself after two of them (exclusions.ts).
 */
const GONE_MS = 3 * AVOIDED_MS

export function createWays(
  model: EntryModel,
  request: ChainRequest,
  deps: EntryDeps & { readonly exclusions: Exclusions },
): Ways {
  return new PlannedWays(model, request, deps)
}

type Penalty = (from: string | null, to: string | null) => number

class PlannedWays implements Ways {
  readonly #model: EntryModel
  readonly #request: ChainRequest
  readonly #deps: EntryDeps & { readonly exclusions: Exclusions }

  constructor(model: EntryModel, request: ChainRequest, deps: EntryDeps & { readonly exclusions: Exclusions }) {
    this.#model = model
    this.#request = request
    this.#deps = deps
  }

  best(begun: Begun, { spread = false, lastResort = false } = {}): { plan?: ChainPlan; gap?: LlmNodeError } {
    const { exclusions, random = Math.random } = this.#deps
    try {
      return {
        plan: this.#plan(begun, (from, to) => exclusions.penaltyMs(from, to, lastResort), {
          penalised: exclusions.concerned(),
          random: spread ? random : undefined,
        }),
      }
    } catch (error) {
      if (isLlmNodeError(error) && WAITED_FOR.has(error.code)) return { gap: error }
      throw error
    }
  }

  inOtherClass(begun: Begun, failed: ChainPlan | undefined): ChainPlan | undefined {
    const stops = failed === undefined ? [] : stopsOf(failed)
    const { penaltyMs } = this.#deps.exclusions
    const excluded = new Set(stops.filter((to, at) => penaltyMs(stops[at - 1] ?? null, to) >= AVOIDED_MS))
    try {
      return this.#plan(begun, penaltyMs, { excluded, numericsClass: undefined })
    } catch {
      return undefined
    }
  }

  beside(
    begun: Begun,
    inUse: ChainPlan | undefined,
    { without, roomy = false, lastResort = false, isHeldUp = false }: BesideOptions = {},
  ): ChainPlan | undefined {
    const used = new Set(inUse?.route?.hops.map(({ holder }) => holder.address))
    if (used.size === 0) return undefined
    const { exclusions } = this.#deps
    const eachMs = lastResort && !isHeldUp ? LAST_SHARED_MS : SHARED_MS
    const sharedMs = (address: string | null) => (address !== null && used.has(address) ? eachMs : 0)
    const penaltyMs: Penalty = (from, to) => exclusions.penaltyMs(from, to, lastResort) + sharedMs(to)
    let way: ChainPlan
    try {
      way = this.#plan(begun, penaltyMs, { penalised: undefined, excluded: without })
    } catch {
      return undefined
    }
    const hops = way.route?.hops ?? []
    // Where only a relay leaves, the same hops may compute again.
    const isOther =
      without === undefined
        ? hops.some(({ holder }) => !used.has(holder.address))
        : !stopsOf(way).some((address) => without.has(address))
    const roomTokens = roomy ? way.maxContext * pipelineLimits.spareRoom : 0
    if (hops.some(({ holder }) => holder.freeKvTokens < roomTokens)) return undefined
    return isOther && (lastResort || this.isSound(begun, way)) ? way : undefined
  }

  isSound({ gone }: Begun, way: ChainPlan): boolean {
    const { exclusions } = this.#deps
    const stops = [null, ...stopsOf(way), null]
    return stops.slice(1).every((to, at) => {
      return exclusions.penaltyMs(stops[at] ?? null, to) < AVOIDED_MS && !(to !== null && gone.has(to))
    })
  }

  async build({ pinned }: Begun, way: ChainPlan, call: RingCall): Promise<OpenedChain> {
    const opened = await openPlan(this.#model, way, this.#deps, call)
    const { chain } = opened
    if (pinned === undefined || chain.maxContext >= pinned.maxContext) return opened
    await chain.close()
    throw new LlmNodeError('PEER_REFUSED', `The new circuit holds only ${chain.maxContext} tokens.`, {
      hint: 'Try again with a shorter context.',
    })
  }

  /** As the answer has begun, unless the wishes say otherwise. */
  #plan({ pinned, profile, longRope, gone }: Begun, penaltyMs: Penalty, wishes: Partial<ChainRequest>): ChainPlan {
    const goneMs = (address: string | null) => (address !== null && gone.has(address) ? GONE_MS : 0)
    const planned = planChain(
      this.#model,
      {
        ...this.#request,
        ...(pinned === undefined ? {} : { numericsClass: pinned.numericsClass }),
        longRope,
        profile: pinned?.profile ?? profile ?? this.#request.profile,
        penaltyMs: (from, to) => penaltyMs(from, to) + goneMs(to),
        ...wishes,
      },
      this.#deps,
    )
    return pinned === undefined ? planned : { ...planned, maxContext: pinned.maxContext }
  }
}
