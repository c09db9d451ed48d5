import { type Clock, systemClock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Attempts } from './attempts.ts'
import type { OpenedChain } from './entry.ts'
import type { TokenSession } from './generate.ts'
import type { HeldChain } from './held-chain.ts'
import { createPace } from './pace.ts'
import { race } from './race.ts'
import { sendRows } from './send-rows.ts'
import type { Standby } from './standby.ts'

/** Why what is not needed any more stops; made once, because making one takes as long as sealing a frame. */
const OVER = new Error('The step is over.')

/**
 * Asked for the rows of some ids, a session computes only what its chain does not hold; when the chain fails, it computes
 * everything again on another one. Since a row is the same however it is computed (engine.md §6), nobody can tell from
 * the rows.
 */
export interface Session extends TokenSession {
  /** The chain in use, fit for so many ids. Throws what opening one throws. */
  open(signal: AbortSignal, nIds: number): Promise<OpenedChain>
  /** The chain in use, if any. */
  readonly current: OpenedChain | undefined
  /** Gives the chain away, for another session to go on with it; undefined: there is none. */
  release(): HeldChain | undefined
  close(): Promise<void>
}

/** How long a token may take before another way is tried; undefined: as long as the circuit's own watch allows. */
export interface Patience {
  readonly firstTokenMs?: number | undefined
  readonly tokenMs?: number | undefined
}

export interface SessionDeps {
  readonly ends: Pick<ModelEnds, 'embed'>
  readonly attempts: Attempts
  /** A chain to begin with. */
  readonly held?: HeldChain | undefined
  /** A longrope model computes more ids than these with other factors, and all of them then (engine.md §1). */
  readonly shortLimit?: number | null
  /** Prepares a second chain. */
  readonly standby?: Standby | undefined
  /** Lets a second chain race the first one for the first token, and when a step is slow. Needs `standby`. */
  readonly hedge?: boolean | undefined
  readonly patience?: Patience | undefined
  /** Sees all rows that come back: those for the last of `ids`. */
  readonly onRows?: ((ids: readonly number[], rows: Float32Array, by: OpenedChain) => void) | undefined
  /** Hears to which chains rows are sent. */
  readonly onSent?: ((opened: OpenedChain) => void) | undefined
  readonly clock?: Clock
}

const NEVER = new AbortController().signal

export function createSession(deps: SessionDeps): Session {
  return new ChainSession(deps)
}

interface Computed {
  readonly by: HeldChain
  readonly rows: Float32Array
}

class ChainSession implements Session {
  readonly #deps: SessionDeps
  readonly #clock: Clock
  readonly #limit: number
  readonly #pace = createPace()
  #inUse: HeldChain | undefined
  #maxContext: number
  #answered = false

  constructor(deps: SessionDeps) {
    this.#deps = deps
    this.#clock = deps.clock ?? systemClock
    this.#limit = deps.shortLimit ?? Number.POSITIVE_INFINITY
    this.#inUse = deps.held
    this.#maxContext = deps.held?.opened.chain.maxContext ?? Number.POSITIVE_INFINITY
    if (deps.held !== undefined) deps.attempts.adopt(deps.held.opened)
  }

  get maxContext(): number {
    return this.#maxContext
  }

  get current(): OpenedChain | undefined {
    return this.#inUse?.opened
  }

  frameEnd(nIds: number): number {
    return nIds <= this.#limit ? Math.min(this.#limit, this.#maxContext) : this.#maxContext
  }

  async open(signal: AbortSignal, nIds: number): Promise<OpenedChain> {
    return (await this.#open(signal, nIds)).opened
  }

  async close(): Promise<void> {
    const closing = this.#inUse
    this.#inUse = undefined
    await Promise.all([closing?.opened.chain.close(), this.#deps.standby?.close()])
  }

  release(): HeldChain | undefined {
    const released = this.#inUse
    this.#inUse = undefined
    return released
  }

  async rows(wanted: readonly number[], want: number, { signal = NEVER }: { signal?: AbortSignal | undefined }) {
    if (want < 1 || want > wanted.length) throw new LlmNodeError('BAD_INPUT', `${want} of ${wanted.length} rows.`)
    const { attempts, standby, onRows } = this.#deps
    for (;;) {
      await this.#goOnWith(standby?.takeMoved())
      const inUse = await this.#open(signal, wanted.length)
      try {
        const startedMs = this.#clock.monotonicMs()
        const { by, rows } = await this.#compute(inUse, wanted, want, signal)
        if (by !== inUse) await this.#goOnWith(by)
        this.#inUse = { ...by, ids: wanted }
        if (this.#answered) this.#pace.add(this.#clock.monotonicMs() - startedMs)
        this.#answered = true
        attempts.worked()
        onRows?.(wanted, rows, by.opened)
        standby?.tend(this.#inUse)
        return rows
      } catch (error) {
        await this.#drop()
        if (signal.aborted) throw error
        attempts.failed(error)
        const spare = await standby?.take()
        if (spare !== undefined && attempts.isSound(spare.opened)) await this.#goOnWith(spare)
        else await spare?.opened.chain.close()
      }
    }
  }

  async #open(signal: AbortSignal, nIds: number): Promise<HeldChain> {
    const longRope = nIds > this.#limit
    const nowMs = this.#clock.monotonicMs()
    if (this.#inUse !== undefined) {
      const { opened, openedMs } = this.#inUse
      const lifeMs = opened.chain.lifeS * 1_000 * pipelineLimits.lifeShare
      if (opened.plan.longRope === longRope && nowMs < openedMs + lifeMs) return this.#inUse
      await this.#drop()
    }
    const opened = await this.#deps.attempts.open(signal, { longRope })
    this.#maxContext = opened.chain.maxContext
    this.#inUse = { opened, ids: [], openedMs: this.#clock.monotonicMs() }
    return this.#inUse
  }

  async #drop(): Promise<void> {
    const dropped = this.#inUse
    this.#inUse = undefined
    await dropped?.opened.chain.close()
  }

  async #goOnWith(held: HeldChain | undefined): Promise<void> {
    if (held === undefined) return
    await this.#drop()
    this.#deps.attempts.adopt(held.opened)
    this.#inUse = held
  }

  async #compute(inUse: HeldChain, wanted: readonly number[], want: number, signal: AbortSignal): Promise<Computed> {
    const { attempts, hedge = false, patience, standby } = this.#deps
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const on = async (held: HeldChain): Promise<Computed> => ({
      by: held,
      rows: await this.#send(held, wanted, want, either),
    })
    const isFirst = !this.#answered
    let other: HeldChain | undefined
    let winner: HeldChain | undefined
    try {
      const computed = await race(on(inUse), {
        lateMs: this.#lateMs(inUse, wanted.length),
        second: async () => {
          const second = await standby?.second(either)
          if (second === undefined) return undefined
          // It may have been built while the first one won: then nobody else closes it.
          if (over.signal.aborted) return void (await second.opened.chain.close())
          other = second
          return on(second)
        },
        limitMs: isFirst ? patience?.firstTokenMs : patience?.tokenMs,
      })
      winner = computed.by
      if (winner !== inUse && !hedge) attempts.late(inUse.opened)
      return computed
    } finally {
      over.abort(OVER)
      if (other !== winner) await other?.opened.chain.close()
    }
  }

  /** After so many ms a second chain is begun beside the one in use; undefined: never. */
  #lateMs({ opened, ids }: HeldChain, nIds: number): number | undefined {
    const { hedge = false, standby } = this.#deps
    if (standby === undefined) return undefined
    if (hedge) return this.#answered ? this.#pace.p95() : 0
    if (opened.plan.route === undefined || opened.partsMs === null) return undefined
    const nRows = Math.max(1, pipelineLimits.prefillRowShare * (nIds - ids.length))
    return pipelineLimits.lateToAnswerMs + opened.partsMs * nRows
  }

  #send({ opened, ids }: HeldChain, wanted: readonly number[], want: number, signal: AbortSignal) {
    this.#deps.onSent?.(opened)
    // What was guessed wrong is overwritten: a lower position rolls back.
    const pos = Math.min(commonLength(ids, wanted), wanted.length - want)
    return sendRows(opened.chain, this.#deps.ends, { ids: wanted, pos, want, signal })
  }
}

/** So many ids are the same from the start. */
export function commonLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a[length] === b[length]) length++
  return length
}
