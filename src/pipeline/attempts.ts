import { type Clock, systemClock } from '../base/clock.ts'
import { type ErrorCode, isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import { sleep } from '../base/sleep.ts'
import type { Span } from '../base/span.ts'
import type { AskedProfile } from '../coverage/path.ts'
import {
  type ChainPlan,
  type ChainRequest,
  type EntryDeps,
  type EntryModel,
  type OpenedChain,
  stopsOf,
} from './entry.ts'
import { type Blame, blameOf, createExclusions, type Exclusions } from './exclusions.ts'
import { gapError } from './gap-error.ts'
import { lateToOpenMs, openFirst } from './open-first.ts'
import { type Begun, type BesideOptions, createWays, type Pinned, type Ways } from './ways.ts'

/** One way that failed and is given up for another. */
export interface Failover {
  readonly reason: ErrorCode
  /** Layers of the hop that is blamed; of all hops when none can be named. */
  readonly spans: readonly Span[]
}

/** What there is to tell of the ways of one answer while it goes on. */
export type WayNews =
  | ({ readonly type: 'failover' } & Failover)
  /** Nobody holds some layers: the answer waits for somebody. */
  | { readonly type: 'suspended'; readonly message: string; readonly layers: readonly string[] }
  /** Somebody has come: it goes on. */
  | { readonly type: 'continued' }
  /** From here on it is computed in another numerics class than before (only with `exact: false`). */
  | { readonly type: 'changed' }

/** Finds chains for one generation: the first one, and others when one fails. */
export interface Attempts {
  /** Goes on with a chain that another generation has opened, or that was prepared. */
  adopt(opened: OpenedChain): void
  /**
   * Over the best way left. Throws what ended the last one; when nobody is left for a layer it waits for somebody as long
   * as `suspendMs` says, then throws COVERAGE_GAP.
   */
  open(signal: AbortSignal, options?: { readonly longRope: boolean }): Promise<OpenedChain>
  /**
   * Another chain beside the one in use, with as few of its hops as possible; undefined when all would be the same, or it
   * cannot be built now. Blames nobody.
   */
  beside(signal: AbortSignal, options?: BesideOptions): Promise<OpenedChain | undefined>
  /** The same while somebody waits: around whoever fails on it, and at last over those who have failed before. */
  besideInHaste(signal: AbortSignal): Promise<OpenedChain | undefined>
  /** Another chain was faster where this one took too long: whoever it is on it, the next ones try others first. */
  late(opened: OpenedChain): void
  /** Nothing on its way has failed lately. */
  isSound(opened: OpenedChain): boolean
  /** Addresses of hops on the way in use, relays included, that are about to leave. */
  leaving(): ReadonlySet<string>
  /** The chain opened last has failed. Throws the error itself when another way would not help, or when it is enough. */
  failed(error: unknown): void
  /** The chain has answered: an interruption, if there was one, is over. */
  worked(): void
}

export interface AttemptsOptions {
  readonly request: ChainRequest
  readonly onNews?: ((news: WayNews) => void) | undefined
  /** How an answer began that is taken up again. */
  readonly pinned?: Pinned | undefined
  /** False: when the class in which the answer began is gone, it goes on in another one. */
  readonly exact?: boolean | undefined
  /** How long the answer waits for somebody who holds what is missing; default: not longer than a moment. */
  readonly suspendMs?: number | undefined
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

/** Ways that are tried beside each other until one of them stands. */
interface Haste {
  readonly underWay: Set<string>
  tried: number
  /** It is known who holds one of them up. */
  isHeldUp: boolean
}

function startHaste(plan?: ChainPlan): Haste {
  return { underWay: new Set(plan === undefined ? [] : [wayOf(plan)]), tried: 0, isHeldUp: false }
}

function wayOf(plan: ChainPlan): string {
  return stopsOf(plan).join(' ')
}

export function createAttempts(model: EntryModel, options: AttemptsOptions, deps: EntryDeps): Attempts {
  return new RouteAttempts(model, options, deps)
}

class RouteAttempts implements Attempts {
  readonly #model: EntryModel
  readonly #options: AttemptsOptions
  readonly #deps: EntryDeps
  readonly #clock: Clock
  readonly #exclusions: Exclusions
  readonly #ways: Ways
  #pinned: Pinned | undefined
  #plan: ChainPlan | undefined
  #profile: AskedProfile | undefined
  /** Of the interruption that is being mended. */
  #failures: LlmNodeError[] = []
  /** Of them those of ways on which nothing had failed; the others were tried only in case it is back. */
  #routesFailed = 0
  #isRetry = false
  #sinceMs = 0
  #graceUntilMs: number | undefined
  #suspendedMs: number | undefined
  /** Ways that were tried although something on them had failed. */
  readonly #lastResorts = new Set<string>()
  readonly #gone = new Set<string>()
  #proven = false
  #longRope = false

  constructor(model: EntryModel, options: AttemptsOptions, deps: EntryDeps) {
    this.#model = model
    this.#options = options
    this.#deps = deps
    this.#clock = options.clock ?? systemClock
    this.#exclusions = deps.exclusions ?? createExclusions(this.#clock)
    this.#pinned = options.pinned
    this.#ways = createWays(model, options.request, { ...deps, exclusions: this.#exclusions })
  }

  get #begun(): Begun {
    return { pinned: this.#pinned, profile: this.#profile, longRope: this.#longRope, gone: this.#gone }
  }

  adopt({ plan, chain }: OpenedChain): void {
    this.#plan = plan
    this.#proven = false
    const { numericsClass, profile } = plan
    const before = this.#pinned
    // What began over several classes may go on over any.
    if (before !== undefined && (before.numericsClass === undefined || before.numericsClass === numericsClass)) return
    this.#pinned = { numericsClass, profile, maxContext: before?.maxContext ?? chain.maxContext }
    if (before !== undefined) this.#tell({ type: 'changed' })
  }

  async open(signal: AbortSignal, { longRope } = { longRope: false }): Promise<OpenedChain> {
    this.#longRope = longRope
    for (;;) {
      const { plan, limitMs } = await this.#nextPlan(signal)
      this.#plan = plan
      // Decided before anything is sent, so that also a second first attempt keeps to it.
      this.#profile ??= plan.profile
      const limit = limitMs === undefined ? undefined : AbortSignal.timeout(Math.ceil(limitMs))
      try {
        const limited = limit === undefined ? signal : AbortSignal.any([signal, limit])
        const opened = await this.#openInTime(plan, limited, startHaste(plan))
        this.adopt(opened)
        return opened
      } catch (error) {
        throwIfAborted(signal)
        this.failed(limit?.aborted === true ? tooSlow(error) : error)
      }
    }
  }

  async beside(signal: AbortSignal, options: BesideOptions = {}): Promise<OpenedChain | undefined> {
    const plan = this.#ways.beside(this.#begun, this.#plan, options)
    return plan === undefined ? undefined : this.#ways.build(this.#begun, plan, { signal }).catch(() => undefined)
  }

  besideInHaste(signal: AbortSignal): Promise<OpenedChain | undefined> {
    return this.#tryInHaste(signal, startHaste())
  }

  /** Where one fails the next one; undefined: nobody is left, or none can be built. */
  async #tryInHaste(signal: AbortSignal, haste: Haste): Promise<OpenedChain | undefined> {
    const { isHeldUp } = haste
    while (haste.tried++ < pipelineLimits.routesTried) {
      const plan =
        this.#ways.beside(this.#begun, this.#plan) ??
        this.#ways.beside(this.#begun, this.#plan, { lastResort: true, isHeldUp })
      if (plan === undefined || haste.underWay.has(wayOf(plan))) return undefined
      haste.underWay.add(wayOf(plan))
      try {
        return await this.#openInTime(plan, signal, haste)
      } catch (error) {
        if (signal.aborted || !this.#blame(plan, error)) return undefined
      } finally {
        haste.underWay.delete(wayOf(plan))
      }
    }
    return undefined
  }

  /** Over this way; where that is late, another one beside it, without those who hold it up if that can be helped. */
  #openInTime(plan: ChainPlan, signal: AbortSignal, haste: Haste): Promise<OpenedChain> {
    let waiting: readonly number[] = []
    const onWaiting = (hops: readonly number[]) => {
      waiting = hops
    }
    return openFirst({
      chosen: (either) => this.#ways.build(this.#begun, plan, { signal: either, onWaiting }),
      beside: (either) => {
        const stops = stopsOf(plan)
        const holding = waiting.flatMap((index) => stops[index] ?? [])
        for (const address of holding) this.#gone.add(address)
        haste.isHeldUp ||= holding.length > 0
        return this.#tryInHaste(either, haste)
      },
      lateMs: lateToOpenMs(plan),
      onLate: (error) => this.#blame(plan, error),
      signal,
    })
  }

  /** False when nobody in particular can be blamed. */
  #blame(plan: ChainPlan, error: unknown): boolean {
    const blame = isLlmNodeError(error) ? blameOf(error, stopsOf(plan)) : undefined
    if (blame === undefined || blame.what === 'route') return false
    this.#exclude(blame)
    return true
  }

  #exclude(blame: Blame): void {
    this.#exclusions.add(blame)
    if (blame.what === 'link' && blame.to !== null) this.#gone.add(blame.to)
  }

  late({ plan }: OpenedChain): void {
    this.#exclusions.add({ what: 'route', addresses: stopsOf(plan) })
  }

  isSound({ plan }: OpenedChain): boolean {
    return this.#ways.isSound(this.#begun, plan)
  }

  leaving(): ReadonlySet<string> {
    const hops = this.#plan?.route?.hops ?? []
    if (hops.length === 0) return new Set()
    const { modelId, recipe } = this.#model
    const states = new Map(this.#deps.holders(modelId, recipe).map(({ address, state }) => [address, state]))
    const leaving = hops.map(({ holder }) => holder.address).filter((address) => states.get(address) === 'draining')
    const { front, back } = this.#plan?.ends ?? {}
    const relays = [front ?? [], back ?? []].flat().filter((address) => this.#deps.privacy?.isLeaving?.(address))
    return new Set([...leaving, ...relays])
  }

  failed(error: unknown): void {
    if (!isLlmNodeError(error) || !MENDABLE.has(error.code)) throw error
    const plan = this.#plan
    const hops = plan?.route?.hops ?? []
    if (plan === undefined || hops.length === 0) throw error
    this.#exclude(blameOf(error, stopsOf(plan)))
    if (this.#failures.length === 0) this.#sinceMs = this.#clock.monotonicMs()
    this.#failures.push(error)
    if (!this.#isRetry) this.#routesFailed++
    this.#isRetry = false
    // Who waits for somebody tries everybody who comes, however long that takes.
    if (this.#suspendedMs !== undefined) {
      this.#failures.splice(0, this.#failures.length - 1)
      return
    }
    const { start, end } = error.meta
    const known = typeof start === 'number' && typeof end === 'number'
    const spans = known ? [{ start, end }] : hops.map(({ span }) => span)
    this.#tell({ type: 'failover', reason: error.code, spans })
    if (!this.#isEnough()) return
    // When all that is left has failed, coverage is broken, whatever the adverts of the dead say: that is waited for.
    const { plan: left } = this.#ways.best(this.#begun)
    const maySuspend =
      (this.#options.suspendMs ?? 0) > 0 && (left === undefined || !this.#ways.isSound(this.#begun, left))
    if (!maySuspend) throw error
  }

  /** So many routes, or so long: an interruption ends here, or becomes a wait for somebody. */
  #isEnough(): boolean {
    if (this.#failures.length === 0) return false
    const tookMs = this.#clock.monotonicMs() - this.#sinceMs
    return this.#routesFailed >= pipelineLimits.routesTried || tookMs >= pipelineLimits.recoverMs
  }

  worked(): void {
    if (!this.#proven && this.#plan !== undefined) this.#exclusions.worked(stopsOf(this.#plan))
    this.#proven = true
    this.#isRetry = false
    if (this.#suspendedMs !== undefined) this.#tell({ type: 'continued' })
    this.#suspendedMs = undefined
    this.#graceUntilMs = undefined
    this.#gone.clear()
    if (this.#failures.length === 0) return
    this.#failures = []
    this.#routesFailed = 0
    this.#lastResorts.clear()
  }

  /**
   * The best way without what has failed. When there is none: each way over what has failed, for it may be back, what
   * failed longest ago first; then, until the grace is over, a wait for somebody else; then another class, if that is
   * allowed; then a long wait. `limitMs`: how long building it may take.
   */
  async #nextPlan(signal: AbortSignal): Promise<{ plan: ChainPlan; limitMs?: number }> {
    for (;;) {
      const changed = new AbortController()
      const nextChange = this.#deps.nextChange?.(AbortSignal.any([signal, changed.signal])) ?? new Promise(() => {})
      try {
        // What is left after failures is tried in order.
        const { plan: best, gap } = this.#ways.best(this.#begun, { spread: this.#failures.length === 0 })
        this.#isRetry = false
        if (best !== undefined && this.#isGood(best)) return { plan: best }
        if (this.#failures.length === 0 && this.#pinned === undefined) throw gap
        const { plan } = this.#ways.best(this.#begun, { lastResort: true })
        const nowMs = this.#clock.monotonicMs()
        this.#graceUntilMs ??= nowMs + pipelineLimits.gapGraceMs
        const graceMs = this.#graceUntilMs - nowMs
        const way = plan === undefined ? '' : wayOf(plan)
        const isNew = plan !== undefined && !this.#lastResorts.has(way)
        // After enough ways no more of those that failed, until it is a wait: that one tries them now and then.
        const mayRetry = this.#suspendedMs !== undefined || !this.#isEnough()
        if (isNew && mayRetry) {
          this.#lastResorts.add(way)
          this.#isRetry = true
          const limitMs = this.#suspendedMs === undefined ? pipelineLimits.gapGraceMs : pipelineLimits.suspendedTryMs
          return { plan, limitMs }
        }
        const other = graceMs > 0 ? undefined : this.#planInOtherClass(plan)
        if (other !== undefined) return { plan: other }
        const waitMs = graceMs > 0 ? graceMs : this.#suspend(plan, gap, nowMs)
        await Promise.race([nextChange, sleep(waitMs, signal)])
        throwIfAborted(signal)
        // Who failed may be back.
        if (this.#suspendedMs !== undefined) this.#lastResorts.clear()
      } finally {
        changed.abort()
      }
    }
  }

  /** For how long to wait before looking again. Throws when it was long enough. */
  #suspend(plan: ChainPlan | undefined, gap: LlmNodeError | undefined, nowMs: number): number {
    const { suspendMs = 0 } = this.#options
    const error = gapError({ plan, gap, failures: this.#failures, modelName: this.#model.name }, this.#exclusions)
    const leftMs = (this.#suspendedMs ?? nowMs) + suspendMs - nowMs
    if (leftMs <= 0) throw error
    if (this.#suspendedMs === undefined) {
      this.#suspendedMs = nowMs
      const { layers } = error.meta
      this.#tell({ type: 'suspended', message: error.message, layers: Array.isArray(layers) ? layers.map(String) : [] })
    }
    return Math.min(leftMs, pipelineLimits.suspendedLookMs)
  }

  /** Without those that failed on the way in the first class. */
  #planInOtherClass(failed: ChainPlan | undefined): ChainPlan | undefined {
    if (this.#options.exact !== false || this.#pinned?.numericsClass === undefined) return undefined
    const plan = this.#ways.inOtherClass(this.#begun, failed)
    return plan !== undefined && this.#isGood(plan) ? plan : undefined
  }

  /** Nothing on it has failed; or only in other generations, which is no reason not to try. */
  #isGood(plan: ChainPlan): boolean {
    return this.#failures.length === 0 || this.#ways.isSound(this.#begun, plan)
  }

  #tell(news: WayNews): void {
    this.#options.onNews?.(news)
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
