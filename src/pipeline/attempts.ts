import { type Clock, systemClock } from '../base/clock.ts'
import { type ErrorCode, isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import { formatSpan, type Span, spanLength } from '../base/span.ts'
import type { AskedProfile } from '../coverage/path.ts'
import type { Chain } from './chain.ts'
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
import { AVOIDED_MS, blameOf, createExclusions, type Exclusions } from './exclusions.ts'

/** One way that failed and is given up for another. */
export interface Failover {
  readonly reason: ErrorCode
  /** Layers of the hop that is blamed; of all hops when none can be named. */
  readonly spans: readonly Span[]
}

/** Finds chains for one generation: the first one, and others when one fails. */
export interface Attempts {
  /** Goes on with a chain that another generation has opened. */
  adopt(opened: OpenedChain): void
  /** Over the best way left. Throws what ended the last one, or COVERAGE_GAP when nobody is left for a layer. */
  open(signal: AbortSignal, options?: { readonly longRope: boolean }): Promise<OpenedChain>
  /** The chain opened last has failed. Throws the error itself when another way would not help, or when it is enough. */
  failed(error: unknown): void
  /** The chain has answered: an interruption, if there was one, is over. */
  worked(): void
}

export interface AttemptsOptions {
  readonly request: ChainRequest
  readonly onFailover?: ((failover: Failover) => void) | undefined
  /** In [0, 1), for spreading over equal routes; default Math.random. */
  readonly random?: () => number
  readonly clock?: Clock
}

/** What another route can mend. Everything else is this node's own trouble, or the request's. */
const MENDABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'CIRCUIT_BROKEN',
  'HOP_TIMEOUT',
  'PEER_REFUSED',
  'PEER_UNREACHABLE',
  'AUTH_FAILED',
])

/** What somebody who comes may mend. */
const WAITED_FOR: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['COVERAGE_GAP', 'COVERAGE_FRAGMENTED', 'NO_RELAY'])

export function createAttempts(model: EntryModel, options: AttemptsOptions, deps: EntryDeps): Attempts {
  return new RouteAttempts(model, options, deps)
}

class RouteAttempts implements Attempts {
  readonly #model: EntryModel
  readonly #options: AttemptsOptions
  readonly #deps: EntryDeps
  readonly #clock: Clock
  readonly #exclusions: Exclusions
  /** What the first chain had: those that take over must have it too. */
  #pinned: Pick<ChainPlan, 'numericsClass' | 'maxContext'> | undefined
  #plan: ChainPlan | undefined
  /** Decided by the first plan, before anything is sent: `auto` stays with it, whoever fails then. */
  #profile: AskedProfile | undefined
  /** Of the interruption that is being mended. */
  #failures: LlmNodeError[] = []
  #sinceMs = 0
  #graceUntilMs: number | undefined
  /** Ways that were tried although something on them had failed. */
  readonly #lastResorts = new Set<string>()
  #proven = false
  #longRope = false

  constructor(model: EntryModel, options: AttemptsOptions, deps: EntryDeps) {
    this.#model = model
    this.#options = options
    this.#deps = deps
    this.#clock = options.clock ?? systemClock
    this.#exclusions = deps.exclusions ?? createExclusions(this.#clock)
  }

  adopt({ plan, chain }: OpenedChain): void {
    this.#plan = plan
    this.#proven = false
    const { numericsClass, profile } = plan
    this.#profile = profile
    this.#pinned = { numericsClass, maxContext: chain.maxContext }
  }

  async open(signal: AbortSignal, { longRope } = { longRope: false }): Promise<OpenedChain> {
    this.#longRope = longRope
    for (;;) {
      const { plan, limitMs } = await this.#nextPlan(signal)
      this.#plan = plan
      this.#profile ??= plan.profile
      const limit = limitMs === undefined ? undefined : AbortSignal.timeout(Math.ceil(limitMs))
      try {
        const opened = await openPlan(
          this.#model,
          plan,
          this.#deps,
          limit === undefined ? signal : AbortSignal.any([signal, limit]),
        )
        await this.#requirePinned(opened.chain)
        this.#proven = false
        if (this.#pinned === undefined) this.adopt(opened)
        return opened
      } catch (error) {
        throwIfAborted(signal)
        this.failed(limit?.aborted === true ? tooSlow(error) : error)
      }
    }
  }

  failed(error: unknown): void {
    if (!isLlmNodeError(error) || !MENDABLE.has(error.code)) throw error
    const plan = this.#plan
    const hops = plan?.route?.hops ?? []
    if (plan === undefined || hops.length === 0) throw error
    this.#exclusions.add(blameOf(error, stopsOf(plan)))
    if (this.#failures.length === 0) this.#sinceMs = this.#clock.monotonicMs()
    this.#failures.push(error)
    const { start, end } = error.meta
    const known = typeof start === 'number' && typeof end === 'number'
    this.#options.onFailover?.({ reason: error.code, spans: known ? [{ start, end }] : hops.map(({ span }) => span) })
    const tookMs = this.#clock.monotonicMs() - this.#sinceMs
    if (this.#failures.length >= pipelineLimits.routesTried || tookMs >= pipelineLimits.recoverMs) throw error
  }

  worked(): void {
    if (!this.#proven && this.#plan !== undefined) this.#exclusions.worked(stopsOf(this.#plan))
    this.#proven = true
    if (this.#failures.length === 0) return
    this.#failures = []
    this.#graceUntilMs = undefined
    this.#lastResorts.clear()
  }

  /**
   * The best way without what has failed. When there is none: each way over what has failed, for it may be back, what
   * failed longest ago first; then a short wait for somebody else. `limitMs`: how long building it may take.
   */
  async #nextPlan(signal: AbortSignal): Promise<{ plan: ChainPlan; limitMs?: number }> {
    for (;;) {
      const changed = new AbortController()
      const nextChange = this.#deps.nextChange?.(AbortSignal.any([signal, changed.signal])) ?? new Promise(() => {})
      try {
        const { plan, gap } = this.#tryPlan()
        if (plan !== undefined && this.#isGood(plan)) return { plan }
        if (this.#failures.length === 0) throw gap
        const nowMs = this.#clock.monotonicMs()
        this.#graceUntilMs ??= nowMs + pipelineLimits.gapGraceMs
        const leftMs = this.#graceUntilMs - nowMs
        if (leftMs <= 0) throw this.#gapError(plan, gap)
        const way = plan === undefined ? '' : stopsOf(plan).join(' ')
        if (plan !== undefined && !this.#lastResorts.has(way)) {
          this.#lastResorts.add(way)
          return { plan, limitMs: leftMs }
        }
        await Promise.race([nextChange, sleep(leftMs, signal)])
        throwIfAborted(signal)
      } finally {
        changed.abort()
      }
    }
  }

  #tryPlan(): { plan?: ChainPlan; gap?: LlmNodeError } {
    const { request } = this.#options
    const pinned = this.#pinned
    try {
      const plan = planChain(
        this.#model,
        {
          ...request,
          longRope: this.#longRope,
          penaltyMs: this.#exclusions.penaltyMs,
          penalised: this.#exclusions.concerned(),
          // What is left after failures is tried in order.
          random: this.#failures.length === 0 ? (this.#options.random ?? Math.random) : undefined,
          profile: this.#profile ?? request.profile,
          ...(pinned === undefined ? {} : { numericsClass: pinned.numericsClass }),
        },
        this.#deps,
      )
      return { plan: pinned === undefined ? plan : { ...plan, maxContext: pinned.maxContext } }
    } catch (error) {
      if (isLlmNodeError(error) && WAITED_FOR.has(error.code)) return { gap: error }
      throw error
    }
  }

  /** Nothing on it has failed; or only in other generations, which is no reason not to try. */
  #isGood({ route }: ChainPlan): boolean {
    return this.#failures.length === 0 || route === undefined || route.penaltyMs < AVOIDED_MS
  }

  async #requirePinned(chain: Chain): Promise<void> {
    if (this.#pinned === undefined || chain.maxContext >= this.#pinned.maxContext) return
    await chain.close()
    throw new LlmNodeError('PEER_REFUSED', `The new circuit holds only ${chain.maxContext} tokens.`, {
      hint: 'Try again with a shorter context.',
    })
  }

  /** Names the layers that only failed peers hold, as far as it is known. */
  #gapError(plan: ChainPlan | undefined, gap: LlmNodeError | undefined): LlmNodeError {
    const cause = this.#failures.at(-1)
    if (plan?.route === undefined) {
      const { code = 'COVERAGE_GAP', message = 'A layer is missing.', hint = '', meta = {} } = gap ?? {}
      return new LlmNodeError(code, message, { hint, meta, cause })
    }
    const { hops } = plan.route
    const avoided = hops.filter(({ holder }, index) => {
      const from = hops[index - 1]?.holder.address ?? null
      const isLast = index === hops.length - 1
      return (
        this.#exclusions.penaltyMs(from, holder.address) >= AVOIDED_MS ||
        (isLast && this.#exclusions.penaltyMs(holder.address, null) >= AVOIDED_MS)
      )
    })
    // A hop that failed with two partners may be innocent; the failures themselves say which layers did not answer.
    const blamed = avoided.filter(({ span }) => this.#failures.some(({ meta }) => meta.start === span.start))
    const lost = blamed.length > 0 ? blamed : avoided
    const layers = lost.map(({ span }) => formatSpan(span))
    const one = lost.length === 1 && lost.every(({ span }) => spanLength(span) === 1)
    return new LlmNodeError(
      'COVERAGE_GAP',
      `Layer${one ? ' ' : 's '}${layers.join(', ')} of ${this.#model.name} ${one ? 'is' : 'are'} held by nobody who answers.`,
      {
        hint: `Try again later, or hold ${one ? 'it' : 'them'} yourself: llm-node setup --layers ${layers[0]}`,
        meta: { layers },
        cause,
      },
    )
  }
}

function tooSlow(cause: unknown): LlmNodeError {
  return new LlmNodeError('HOP_TIMEOUT', 'The only way left could not be built in time.', {
    hint: 'Try again later.',
    cause,
  })
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, signal.aborted ? 0 : ms)
    signal.addEventListener('abort', done)
  })
}
