import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import type { FramedStream } from './framed-stream.ts'
import type { Host } from './host.ts'
import type { PeerTarget } from './peer-addrs.ts'
import { type Dialler, type FrameRules, frameStream, openStream, throwIfAborted } from './streams.ts'

/** One request, one answer, one stream each: u32 length | bytes in both directions. */
const HEADER_BYTES = 4

export interface RequestContext {
  readonly remotePeer: string
  readonly remoteIsLocal: boolean
}

export type RequestHandler = (body: Uint8Array, from: RequestContext) => Promise<Uint8Array> | Uint8Array

/** Registers `handler`. A request that is too long, malformed or slow, and a handler that throws, reset the stream. */
export async function handleRequests(
  host: Host,
  options: { protocol: string; maxRequestBytes: number },
  handler: RequestHandler,
): Promise<void> {
  await host.handle(
    options.protocol,
    (stream, connection) => {
      answer(frameStream(stream, connection, lengthRules(options.maxRequestBytes)), handler)
    },
    {
      maxInboundStreams: p2pLimits.otherStreams,
      maxOutboundStreams: p2pLimits.otherStreams,
      runOnLimitedConnection: true,
    },
  )
}

function answer(stream: FramedStream, handler: RequestHandler): void {
  const timer = setTimeout(() => stream.abort('The request took too long.'), p2pLimits.requestMs)
  let asked = false
  stream.onEnd(() => clearTimeout(timer))
  stream.onFrame((frame) => {
    if (asked) {
      stream.abort('More than one request on a stream.')
      return
    }
    asked = true
    // In a promise, so that a handler that throws at once is treated like one that rejects.
    Promise.resolve()
      .then(() => handler(frame.subarray(HEADER_BYTES), stream))
      .then((body) => {
        stream.send(prefixed(body))
        stream.close()
      })
      .catch(() => stream.abort('The request was refused.'))
  })
}

export interface Requester {
  /** Throws PEER_UNREACHABLE (no answer), PEER_REFUSED (reset), BAD_FRAME (answer too long), ABORTED, LIMIT. */
  request(
    target: PeerTarget,
    protocol: string,
    body: Uint8Array,
    options: { signal?: AbortSignal; maxResponseBytes: number; timeoutMs?: number },
  ): Promise<Uint8Array>
}

/**
 * Requests go out at most two at a time for each peer and protocol: the far end allows four streams, and one that was
 * answered counts until both ends have closed it.
 */
export function createRequester(dialler: Dialler): Requester {
  const lanes = createLanes(2, p2pLimits.requestsWaiting)
  return {
    request: (target, protocol, body, options) =>
      lanes.run(`${target.peerId} ${protocol}`, () => exchange(dialler, target, protocol, body, options)),
  }
}

async function exchange(
  dialler: Dialler,
  target: PeerTarget,
  protocol: string,
  body: Uint8Array,
  options: { signal?: AbortSignal; maxResponseBytes: number; timeoutMs?: number },
): Promise<Uint8Array> {
  throwIfAborted(options.signal)
  const timeout = AbortSignal.timeout(options.timeoutMs ?? p2pLimits.requestMs)
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout])
  try {
    const rules = lengthRules(options.maxResponseBytes)
    const stream = await openStream(dialler, target, { protocol, signal, rules })
    return await oneAnswer(stream, prefixed(body), signal)
  } catch (error) {
    throwIfAborted(options.signal)
    if (timeout.aborted) {
      throw new LlmNodeError('PEER_UNREACHABLE', `${target.peerId} did not answer in time.`, { cause: error })
    }
    throw error
  }
}

function oneAnswer(stream: FramedStream, request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const onAbort = () => stream.abort('The request was given up.')
    signal.addEventListener('abort', onAbort, { once: true })
    stream.onEnd((error) => {
      signal.removeEventListener('abort', onAbort)
      if (isLlmNodeError(error, 'BAD_FRAME')) reject(error)
      else reject(new LlmNodeError('PEER_REFUSED', 'The peer ended the stream without an answer.', { cause: error }))
    })
    stream.onFrame((frame) => {
      resolve(frame.subarray(HEADER_BYTES))
      stream.close()
    })
    try {
      stream.send(request)
    } catch (error) {
      reject(error)
    }
  })
}

function lengthRules(maxBytes: number): FrameRules {
  return {
    headerBytes: HEADER_BYTES,
    frameLength(header) {
      const length = new DataView(header.buffer, header.byteOffset, HEADER_BYTES).getUint32(0)
      if (length <= maxBytes) return HEADER_BYTES + length
      throw new LlmNodeError('BAD_FRAME', `A message of ${length} bytes is longer than the ${maxBytes} allowed.`)
    },
  }
}

function prefixed(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + body.length)
  new DataView(frame.buffer).setUint32(0, body.length)
  frame.set(body, HEADER_BYTES)
  return frame
}

/** At most `width` tasks at a time for each key, the others wait in order; beyond `maxWaiting` LIMIT is thrown. */
function createLanes(width: number, maxWaiting: number): { run<T>(key: string, task: () => Promise<T>): Promise<T> } {
  const lanes = new Map<string, { running: number; waiting: (() => void)[] }>()
  return {
    async run(key, task) {
      const lane = lanes.get(key) ?? { running: 0, waiting: [] }
      lanes.set(key, lane)
      if (lane.running >= width) {
        if (lane.waiting.length >= maxWaiting) {
          throw new LlmNodeError('LIMIT', 'Too many requests are waiting for one peer.', { meta: { maxWaiting } })
        }
        await new Promise<void>((resolve) => lane.waiting.push(resolve))
      } else {
        lane.running++
      }
      try {
        return await task()
      } finally {
        const next = lane.waiting.shift()
        if (next !== undefined) next()
        else if (--lane.running === 0) lanes.delete(key)
      }
    },
  }
}
