import { type ErrorCode, type ErrorMeta, LlmNodeError } from '../base/errors.ts'
import { formatSpan } from '../base/span.ts'
import type { HopTarget } from './ring.ts'

/**
 * Which hop and which link an error is about, for the route to leave it out: `hop` is the index in the ring (its length:
 * the entry's own end), `pair` the two indexes of the link that failed (−1: the entry), `peers` their transport ids,
 * `start` and `end` the hop's layers.
 */
function hopMeta(hops: readonly HopTarget[], hop: number): ErrorMeta {
  const peer = (index: number) => hops[index]?.peerId ?? 'entry'
  const span = hops[hop]?.span
  return {
    hop,
    peer: peer(hop),
    pair: [hop - 1, hop],
    peers: [peer(hop - 1), peer(hop)],
    ...(span === undefined ? {} : { start: span.start, end: span.end }),
  }
}

/** "Hop 2 of 3 (layers 4-7)". People count from one. */
function hopName(hops: readonly HopTarget[], hop: number): string {
  const target = hops[hop]
  if (target === undefined) return 'The way back to this node'
  const does =
    target.role === 'answer' ? 'answers' : target.span === undefined ? 'relay' : `layers ${formatSpan(target.span)}`
  return `Hop ${hop + 1} of ${hops.length} (${does})`
}

const SAYS: Partial<Record<ErrorCode, string>> = {
  PEER_UNREACHABLE: 'could not be reached',
  PEER_REFUSED: 'refused',
  CIRCUIT_BROKEN: 'broke away',
  HOP_TIMEOUT: 'did not answer in time',
  AUTH_FAILED: 'did not prove to be the node that was asked for',
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  PEER_UNREACHABLE: 'Try again: another route leaves this link out.',
  PEER_REFUSED: 'Try again later, or with a route over another node.',
  CIRCUIT_BROKEN: 'Ask again: another node may hold these layers.',
  HOP_TIMEOUT: 'Ask again: another node may hold these layers.',
  AUTH_FAILED: 'Fetch the contact record of this node again: its onion key may have changed.',
}

/** `status`: what a refusing hop gave as its reason. */
export function hopError(
  hops: readonly HopTarget[],
  hop: number,
  code: ErrorCode,
  details: { status?: string; cause?: unknown } = {},
): LlmNodeError {
  const reason = details.status === undefined ? '' : `: ${details.status}`
  return new LlmNodeError(code, `${hopName(hops, hop)} ${SAYS[code] ?? 'failed'}${reason}.`, {
    hint: HINTS[code] ?? 'Try again with another route.',
    meta: { ...hopMeta(hops, hop), ...(details.status === undefined ? {} : { status: details.status }) },
    ...(details.cause === undefined ? {} : { cause: details.cause }),
  })
}

/** `hop`: the one whose answer was waited for, if any. */
export function aborted(hops: readonly HopTarget[] = [], hop?: number): LlmNodeError {
  return new LlmNodeError('ABORTED', 'Stopped on request.', hop === undefined ? {} : { meta: hopMeta(hops, hop) })
}
