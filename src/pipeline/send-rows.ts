import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Chain } from './chain.ts'

export interface RowsRequest {
  /** Prompt, answer so far, draft. */
  readonly ids: readonly number[]
  /** The chain's KV holds ids [0, pos) already. */
  readonly pos: number
  /** So many of the last rows are wanted; all of them lie at or after `pos`. */
  readonly want: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Runs ids [pos, ids.length) through the chain in chunks, several under way at once. Resolves with what comes out after
 * the last layer for the last `want` of them: [want, hiddenSize]. Throws what the chain throws, BAD_INPUT, ABORTED.
 */
export async function sendRows(
  chain: Pick<Chain, 'forward' | 'maxRows'>,
  ends: Pick<ModelEnds, 'embed'>,
  { ids, pos, want, signal }: RowsRequest,
): Promise<Float32Array> {
  const chunkRows = Math.min(chain.maxRows, pipelineLimits.prefillRows)
  const wantedFrom = ids.length - want
  const wanted: Float32Array[] = []
  const pending: Promise<Float32Array>[] = []
  const takeOldest = async () => {
    const rows = await orAborted(pending.shift(), signal)
    if (rows.length > 0) wanted.push(rows)
  }
  for (let start = pos; start < ids.length; start += chunkRows) {
    signal?.throwIfAborted()
    const chunk = ids.slice(start, start + chunkRows)
    const end = start + chunk.length
    const hidden = await ends.embed(chunk)
    const answer = chain.forward({ pos: start, hidden, want: Math.max(0, end - Math.max(start, wantedFrom)) })
    // A failure is seen when its turn comes below; until then it must not count as unhandled.
    answer.catch(() => {})
    pending.push(answer)
    if (pending.length > pipelineLimits.prefillFramesUnderWay) await takeOldest()
  }
  while (pending.length > 0) await takeOldest()
  return joinRows(wanted)
}

function joinRows(parts: readonly Float32Array[]): Float32Array {
  const [only] = parts
  if (only !== undefined && parts.length === 1) return only
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

/** The promise's outcome, or ABORTED as soon as the signal fires. */
async function orAborted<T>(promise: Promise<T> | undefined, signal?: AbortSignal): Promise<T> {
  if (promise === undefined) throw new LlmNodeError('INTERNAL', 'Nothing to wait for.')
  if (signal === undefined) return promise
  signal.throwIfAborted()
  let onAbort: () => void = () => {}
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new LlmNodeError('ABORTED', 'Stopped on request.'))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
