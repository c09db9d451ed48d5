import { randomBytes } from 'node:crypto'
import type { Connection, StreamMessageEvent } from '@libp2p/interface'
import { PING_PROTOCOL } from '@libp2p/ping'

const BYTES = 32

/**
 * Round trips over this very connection, in ms. libp2p's own ping asks for a peer: it may take another connection, and it
 * dials anew when the only one is relayed. Throws when the peer does not answer or the signal fires.
 */
export async function pingConnection(
  connection: Connection,
  options: { readonly signal: AbortSignal; readonly times?: number },
): Promise<number[]> {
  const { signal, times = 1 } = options
  const stream = await connection.newStream(PING_PROTOCOL, { signal, runOnLimitedConnection: true })
  const onAbort = () => stream.abort(new Error('the ping took too long'))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const trips: number[] = []
    let waiting: PromiseWithResolvers<void> | undefined
    let missing = 0
    stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
      missing -= data.byteLength
      if (missing <= 0) waiting?.resolve()
    })
    stream.addEventListener('close', () => waiting?.reject(new Error('the ping was not answered')))
    for (let i = 0; i < times; i++) {
      waiting = Promise.withResolvers<void>()
      // The stream may end before anybody waits.
      waiting.promise.catch(() => {})
      missing = BYTES
      const startMs = performance.now()
      if (stream.status !== 'open') throw new Error('the stream has ended')
      stream.send(randomBytes(BYTES))
      await waiting.promise
      trips.push(performance.now() - startMs)
    }
    return trips
  } finally {
    signal.removeEventListener('abort', onAbort)
    stream.close({ signal: AbortSignal.timeout(1_000) }).catch((error) => stream.abort(error as Error))
  }
}
