import { LlmNodeError } from '../base/errors.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Chain } from './chain.ts'
import type { TokenSession } from './generate.ts'
import { sendRows } from './send-rows.ts'

/** A chain with the ids whose keys and values it holds: only what differs is computed. */
export interface Session extends TokenSession {
  readonly chain: Chain
  close(): Promise<void>
}

export function createSession(chain: Chain, deps: { ends: Pick<ModelEnds, 'embed'> }): Session {
  let held: readonly number[] = []
  return {
    chain,
    maxContext: chain.maxContext,
    async rows(ids, want, { signal }) {
      if (want < 1 || want > ids.length) throw new LlmNodeError('BAD_INPUT', `${want} of ${ids.length} rows.`)
      // What was guessed wrong is overwritten: a lower position rolls back.
      const pos = Math.min(commonLength(held, ids), ids.length - want)
      held = held.slice(0, pos)
      const rows = await sendRows(chain, deps.ends, { ids, pos, want, signal })
      held = ids
      return rows
    },
    close: () => chain.close(),
  }
}

/** So many ids are the same from the start. */
export function commonLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a[length] === b[length]) length++
  return length
}
