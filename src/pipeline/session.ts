import { type Clock, systemClock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Attempts } from './attempts.ts'
import type { OpenedChain } from './entry.ts'
import type { TokenSession } from './generate.ts'
import { sendRows } from './send-rows.ts'

/** A chain together with the ids whose keys and values it holds. */
export interface HeldChain {
  readonly opened: OpenedChain
  readonly ids: readonly number[]
  /** On the monotonic clock. */
  readonly openedMs: number
}

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

export interface SessionDeps {
  readonly ends: Pick<ModelEnds, 'embed'>
  readonly attempts: Attempts
  /** A chain to begin with. */
  readonly held?: HeldChain | undefined
  /** A longrope model computes more ids than these with other factors, and all of them then (engine.md §1). */
  readonly shortLimit?: number | null
  readonly clock?: Clock
}

const NEVER = new AbortController().signal

export function createSession({ ends, attempts, held, shortLimit, clock = systemClock }: SessionDeps): Session {
  const limit = shortLimit ?? Number.POSITIVE_INFINITY
  let opened = held?.opened
  let openedMs = held?.openedMs ?? 0
  let ids: readonly number[] = held?.ids ?? []
  let maxContext = opened?.chain.maxContext ?? Number.POSITIVE_INFINITY
  if (opened !== undefined) attempts.adopt(opened)

  const close = async () => {
    const closing = opened
    opened = undefined
    await closing?.chain.close()
  }
  const open = async (signal: AbortSignal, nIds: number): Promise<OpenedChain> => {
    const longRope = nIds > limit
    const lifeMs = (opened?.chain.lifeS ?? 0) * 1_000 * pipelineLimits.lifeShare
    const isFit = opened?.plan.longRope === longRope && clock.monotonicMs() < openedMs + lifeMs
    if (opened !== undefined && isFit) return opened
    await close()
    ids = []
    opened = await attempts.open(signal, { longRope })
    openedMs = clock.monotonicMs()
    maxContext = opened.chain.maxContext
    return opened
  }

  return {
    get maxContext() {
      return maxContext
    },
    frameEnd: (nIds) => (nIds <= limit ? Math.min(limit, maxContext) : maxContext),
    get current() {
      return opened
    },
    open,
    close,
    release() {
      const released = opened === undefined ? undefined : { opened, ids, openedMs }
      opened = undefined
      return released
    },
    async rows(wanted, want, { signal = NEVER }) {
      if (want < 1 || want > wanted.length) throw new LlmNodeError('BAD_INPUT', `${want} of ${wanted.length} rows.`)
      for (;;) {
        const { chain } = await open(signal, wanted.length)
        // What was guessed wrong is overwritten: a lower position rolls back.
        const pos = Math.min(commonLength(ids, wanted), wanted.length - want)
        ids = ids.slice(0, pos)
        try {
          const rows = await sendRows(chain, ends, { ids: wanted, pos, want, signal })
          ids = wanted
          attempts.worked()
          return rows
        } catch (error) {
          await close()
          if (signal.aborted) throw error
          attempts.failed(error)
        }
      }
    },
  }
}

/** So many ids are the same from the start. */
export function commonLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a[length] === b[length]) length++
  return length
}
