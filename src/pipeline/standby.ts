import { type Clock, systemClock } from '../base/clock.ts'
import { pipelineLimits } from '../base/limits.ts'
import { sleep } from '../base/sleep.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Attempts } from './attempts.ts'
import { type OpenedChain, stopsOf } from './entry.ts'
import type { HeldChain } from './held-chain.ts'
import { sendRows } from './send-rows.ts'

/**
 * A second chain beside the one in use. Once an answer lasts, a spare one is built where replicas exist, so that after a
 * failure only the replay is left; and when a hop is about to leave, the other chain computes what was said while the
 * first one goes on, and takes over between two steps.
 */
export interface Standby {
  /** Between two steps of the chain in use: looks what is to be prepared, without waiting for it. */
  tend(inUse: HeldChain): void
  /** One that has computed everything but the last few ids, to go on with at once; it is the caller's then. */
  takeMoved(): HeldChain | undefined
  /** One that lives, or will in a moment; it is the caller's then. */
  take(): Promise<HeldChain | undefined>
  /** The spare one, or one that is built now: to race the one in use. It is the caller's then. */
  second(signal: AbortSignal): Promise<HeldChain | undefined>
  close(): Promise<void>
}

export interface StandbyDeps {
  readonly ends: Pick<ModelEnds, 'embed'>
  readonly attempts: Pick<Attempts, 'beside' | 'besideInHaste' | 'leaving'>
  /** Hears to which chains rows are sent. */
  readonly onSent?: ((opened: OpenedChain) => void) | undefined
  readonly clock?: Clock
}

export function createStandby(deps: StandbyDeps): Standby {
  return new SecondChain(deps)
}

class SecondChain implements Standby {
  readonly #deps: StandbyDeps
  readonly #clock: Clock
  readonly #over = new AbortController()
  #held: HeldChain | undefined
  #moved: HeldChain | undefined
  #building: Promise<void> | undefined
  #firstMs: number | undefined
  #lookMs = Number.NEGATIVE_INFINITY
  #triedMs = Number.NEGATIVE_INFINITY

  constructor(deps: StandbyDeps) {
    this.#deps = deps
    this.#clock = deps.clock ?? systemClock
  }

  tend(inUse: HeldChain): void {
    const nowMs = this.#clock.monotonicMs()
    this.#firstMs ??= nowMs
    if (nowMs - this.#lookMs < pipelineLimits.standbyLookMs || this.#building !== undefined) return
    this.#lookMs = nowMs
    if (this.#over.signal.aborted || this.#moved !== undefined) return
    const leaving = this.#deps.attempts.leaving()
    const isDue = nowMs - this.#triedMs >= (leaving.size > 0 ? 1 : 10) * pipelineLimits.standbyRetryMs
    if (leaving.size === 0) {
      const lasts = nowMs - this.#firstMs >= pipelineLimits.spareAfterMs
      if (this.#held === undefined && lasts && isDue) this.#start(() => this.#build())
      return
    }
    if (isDue) this.#start(() => this.#move(inUse, leaving))
  }

  takeMoved(): HeldChain | undefined {
    const moved = this.#moved
    this.#moved = undefined
    return moved
  }

  async take(): Promise<HeldChain | undefined> {
    await this.#soonBuilt()
    return this.#give()
  }

  async second(signal: AbortSignal): Promise<HeldChain | undefined> {
    await this.#soonBuilt()
    // The race is over: the spare one stays for the next time.
    if (signal.aborted) return undefined
    const held = this.#give()
    if (held !== undefined) return held
    const opened = await this.#deps.attempts.besideInHaste(signal)
    return opened === undefined ? undefined : { opened, ids: [], openedMs: this.#clock.monotonicMs() }
  }

  async close(): Promise<void> {
    this.#over.abort()
    await this.#building
    await Promise.all([this.#held?.opened.chain.close(), this.#moved?.opened.chain.close()])
    this.#held = undefined
    this.#moved = undefined
  }

  #give(): HeldChain | undefined {
    const held = this.#moved ?? this.#held
    if (held === this.#held) this.#held = undefined
    this.#moved = undefined
    return held
  }

  /** One that is built may hang on the very hop for which another chain is wanted. */
  async #soonBuilt(): Promise<void> {
    if (this.#building === undefined) return
    const built = new AbortController()
    await Promise.race([this.#building, sleep(pipelineLimits.spareWaitMs, built.signal)])
    built.abort()
  }

  #start(work: () => Promise<void>): void {
    this.#triedMs = this.#clock.monotonicMs()
    this.#building = work()
      .catch(() => {})
      .finally(() => {
        this.#building = undefined
      })
  }

  async #build(without?: ReadonlySet<string>): Promise<void> {
    const { signal } = this.#over
    const wishes = without === undefined ? { roomy: true } : { without }
    const opened = await this.#deps.attempts.beside(signal, wishes)
    if (opened === undefined) return
    if (signal.aborted) return opened.chain.close()
    const held = { opened, ids: [], openedMs: this.#clock.monotonicMs() }
    this.#held = held
    void opened.chain.ended.then(async () => {
      if (this.#held !== held) return
      this.#held = undefined
      // The circuit has gone; layers that are held here keep their memory until they are told.
      await opened.chain.close()
    })
  }

  /** The replay runs beside the answer; what is said meanwhile is a few ids, which the first step afterwards brings. */
  async #move({ ids }: HeldChain, leaving: ReadonlySet<string>): Promise<void> {
    const spareLeaves = this.#held !== undefined && stopsOf(this.#held.opened.plan).some((each) => leaving.has(each))
    if (this.#held === undefined || spareLeaves) {
      await this.#held?.opened.chain.close()
      this.#held = undefined
      await this.#build(leaving)
    }
    const held = this.#held
    this.#held = undefined
    if (held === undefined) return
    this.#deps.onSent?.(held.opened)
    try {
      await sendRows(held.opened.chain, this.#deps.ends, { ids, pos: 0, want: 1, signal: this.#over.signal })
    } catch {
      return held.opened.chain.close()
    }
    if (this.#over.signal.aborted) return held.opened.chain.close()
    this.#moved = { ...held, ids }
  }
}
