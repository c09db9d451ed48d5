import type { Logger } from '../base/logger.ts'

/** More of them in a minute, and the node would only seem to work. */
const MOST = 16
const WINDOW_MS = 60_000

/**
 * What libp2p throws out of a microtask or a timer of its own when a connection ends at that moment: a yamux stream that
 * is just being opened says so to nobody who could catch it. With a relay many connections end at once.
 */
const ENDED_MEANWHILE = new Set([
  'StreamStateError',
  'StreamResetError',
  'StreamAbortedError',
  'MuxerClosedError',
  'ConnectionClosingError',
  'ConnectionClosedError',
])

/**
 * Lets the node outlive errors that nobody catches: a listener of the network library that throws, or a promise that it
 * forgot, must not take the answers of everybody with it. Each is logged with its stack; too many of them end the process
 * with code 1. A connection that ended meanwhile is no fault. The result takes the handler away.
 */
export function surviveStrayFaults(logger: Logger): () => void {
  const times: number[] = []
  const onFault = (err: unknown, origin: string) => {
    if (err instanceof Error && ENDED_MEANWHILE.has(err.name)) {
      logger.debug({ err, origin }, 'a connection ended while it was written to')
      return
    }
    const nowMs = performance.now()
    times.push(nowMs)
    while ((times[0] ?? nowMs) < nowMs - WINDOW_MS) times.shift()
    logger.error({ err, origin }, 'an error that nobody has caught: a fault of this program; the node goes on')
    if (times.length <= MOST) return
    logger.error({ faults: times.length }, 'too many faults in a minute: the node ends')
    process.exit(1)
  }
  process.on('uncaughtException', onFault)
  return () => void process.off('uncaughtException', onFault)
}
