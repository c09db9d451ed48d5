import { LlmNodeError } from '../base/errors.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Attempts } from './attempts.ts'
import type { OpenedChain } from './entry.ts'
import type { TokenSession } from './generate.ts'
import { sendRows } from './send-rows.ts'

/**
 * A chain together with the ids whose keys and values it holds. Asked for the rows of some ids, it computes only what it
 * does not hold; when the chain fails, it computes everything again on another one. Since a row is the same however it
 * is computed (engine.md §6), nobody can tell from the rows.
 */
export interface Session extends TokenSession {
  /** The chain in use. Throws what opening one throws. */
  open(signal: AbortSignal): Promise<OpenedChain>
  close(): Promise<void>
}

export interface SessionDeps {
  readonly ends: Pick<ModelEnds, 'embed'>
  readonly attempts: Attempts
}

const NEVER = new AbortController().signal

export function createSession({ ends, attempts }: SessionDeps): Session {
  let opened: OpenedChain | undefined
  let held: readonly number[] = []
  let maxContext = Number.POSITIVE_INFINITY

  const open = async (signal: AbortSignal): Promise<OpenedChain> => {
    if (opened !== undefined) return opened
    held = []
    opened = await attempts.open(signal)
    maxContext = opened.chain.maxContext
    return opened
  }
  const close = async () => {
    const closing = opened
    opened = undefined
    await closing?.chain.close()
  }

  return {
    get maxContext() {
      return maxContext
    },
    open,
    close,
    async rows(ids, want, { signal = NEVER }) {
      if (want < 1 || want > ids.length) throw new LlmNodeError('BAD_INPUT', `${want} of ${ids.length} rows.`)
      for (;;) {
        const { chain } = await open(signal)
        // What was guessed wrong is overwritten: a lower position rolls back.
        const pos = Math.min(commonLength(held, ids), ids.length - want)
        held = held.slice(0, pos)
        try {
          const rows = await sendRows(chain, ends, { ids, pos, want, signal })
          held = ids
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
