import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'

/** One ordered stream of frames to a peer that the transport has authenticated. */
export interface FramedStream {
  /** PeerId as text, as the transport proved it. */
  readonly remotePeer: string
  /** The remote end is loopback, link-local or private. */
  readonly remoteIsLocal: boolean
  /** Public remote address cut to its subnet as text (/24 of IPv4, /48 of IPv6); undefined: unknown or local. */
  readonly remoteSubnet: string | undefined
  /**
   * Sends one frame as one contiguous buffer, which the caller must not touch again. Returns false when the transport
   * holds bytes back: `drained` resolves when they are out. Throws PEER_UNREACHABLE when the stream has ended.
   */
  send(frame: Uint8Array): boolean
  /** Rejects with PEER_UNREACHABLE when the stream ends first. */
  drained(): Promise<void>
  /** Frames arrive here, whole, in order. Set once; earlier bytes are kept. The frame belongs to the handler. */
  onFrame(handler: (frame: Uint8Array) => void): void
  /** Called once when the stream ended in any way, also by close and abort. `error` is undefined after a clean end. */
  onEnd(handler: (error?: Error) => void): void
  /** Ends the stream: what was sent is still delivered. Idempotent. */
  close(): void
  /** Ends the stream at once, dropping what is queued. Idempotent. */
  abort(reason: string): void
}

export interface FramedStreamOptions {
  readonly remotePeer: string
  readonly remoteIsLocal: boolean
  readonly remoteSubnet?: string | undefined
  /** Bytes that `frameLength` needs to see; no frame is shorter. */
  readonly headerBytes: number
  /** Length of the whole frame including its header. Throws BAD_FRAME, before a byte of the body is kept. */
  readonly frameLength: (header: Uint8Array) => number
  /** Called when nothing could be written for `stallMs`; the default aborts. Default: p2pLimits.stallMs. */
  readonly stallMs?: number
  readonly onStall?: () => void
}

/**
 * Cuts a libp2p stream into frames. Reads through 'message' events, because iterating a stream buffers without a bound,
 * and waits for 'drain' events, because `onDrain()` works only once (@libp2p/utils 7.4.1, abstract-message-stream).
 */
export function createFramedStream(stream: Stream, options: FramedStreamOptions): FramedStream {
  return new StreamFrames(stream, options)
}

class StreamFrames implements FramedStream {
  readonly remotePeer: string
  readonly remoteIsLocal: boolean
  readonly remoteSubnet: string | undefined
  readonly #stream: Stream
  readonly #options: FramedStreamOptions
  readonly #assembler: FrameAssembler
  #handler: ((frame: Uint8Array) => void) | undefined
  #endHandler: ((error?: Error) => void) | undefined
  #ended = false
  #error: Error | undefined
  #remoteFinished = false
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = []
  #stallTimer: NodeJS.Timeout | undefined

  constructor(stream: Stream, options: FramedStreamOptions) {
    this.remotePeer = options.remotePeer
    this.remoteIsLocal = options.remoteIsLocal
    this.remoteSubnet = options.remoteSubnet
    this.#stream = stream
    this.#options = options
    this.#assembler = createFrameAssembler(options)
    stream.maxReadBufferLength = p2pLimits.streamBufferBytes
    stream.maxWriteBufferLength = p2pLimits.streamWriteBytes
    stream.addEventListener('drain', this.#onDrain)
    stream.addEventListener('close', this.#onClose)
    stream.addEventListener('remoteCloseWrite', this.#onRemoteFinished)
    if (stream.status !== 'open' || stream.remoteWriteStatus === 'closed') this.#onRemoteFinished()
  }

  send(frame: Uint8Array): boolean {
    if (this.#ended) throw this.#endedError()
    try {
      this.#stream.send(frame)
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)))
      throw this.#endedError()
    }
    if (!this.#blocked()) return true
    this.#watchStall()
    return false
  }

  drained(): Promise<void> {
    if (this.#ended) return Promise.reject(this.#endedError())
    if (!this.#blocked()) return Promise.resolve()
    this.#watchStall()
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  onFrame(handler: (frame: Uint8Array) => void): void {
    if (this.#handler !== undefined) throw new LlmNodeError('INTERNAL', 'A stream has one frame handler.')
    this.#handler = handler
    // Adding the listener makes the stream hand over what it has kept so far.
    this.#stream.addEventListener('message', this.#onMessage)
  }

  onEnd(handler: (error?: Error) => void): void {
    this.#endHandler = handler
    if (this.#ended) queueMicrotask(() => handler(this.#error))
  }

  close(): void {
    if (this.#ended) return
    this.#end()
    this.#stream
      .close({ signal: AbortSignal.timeout(p2pLimits.closeMs) })
      .then(() => this.#resetUnlessClosed())
      .catch((error) => this.#stream.abort(toError(error)))
  }

  abort(reason: string): void {
    const error = new LlmNodeError('PEER_UNREACHABLE', reason)
    if (!this.#ended) this.#end(error)
    this.#stream.abort(error)
  }

  readonly #onMessage = (event: StreamMessageEvent): void => {
    const { data } = event
    try {
      for (const chunk of data instanceof Uint8Array ? [data] : data) {
        if (this.#ended) return
        this.#assembler.push(chunk, this.#deliver)
      }
    } catch (cause) {
      const error = toLlmNodeError(cause)
      this.#end(error)
      this.#stream.abort(error)
    }
    if (this.#remoteFinished) this.#finish()
  }

  readonly #deliver = (frame: Uint8Array): boolean => {
    this.#handler?.(frame)
    return !this.#ended
  }

  readonly #onDrain = (): void => {
    // The stream goes on writing in a microtask and may be held up again at once: look after that.
    queueMicrotask(() =>
      queueMicrotask(() => {
        if (this.#blocked()) {
          this.#restartStall()
          return
        }
        clearTimeout(this.#stallTimer)
        this.#stallTimer = undefined
        for (const waiter of this.#waiting.splice(0)) waiter.resolve()
      }),
    )
  }

  readonly #onRemoteFinished = (): void => {
    this.#remoteFinished = true
    this.#finish()
  }

  readonly #onClose = (event: StreamCloseEvent): void => {
    if (event.error !== undefined) this.#end(event.error)
    else this.#onRemoteFinished()
  }

  /** A clean end counts only when everything that came before it was handed over. */
  #finish(): void {
    if (this.#ended) return
    if (this.#stream.readBufferLength > 0 && this.#stream.status !== 'aborted') return
    if (this.#assembler.partial) {
      this.abort('The peer ended the stream in the middle of a frame.')
      return
    }
    this.close()
  }

  #end(error?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    clearTimeout(this.#stallTimer)
    this.#stream.removeEventListener('message', this.#onMessage)
    this.#stream.removeEventListener('drain', this.#onDrain)
    // Bytes that still arrive are dropped instead of being kept for a listener that never comes.
    this.#stream.addEventListener('message', dropMessage)
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#endedError())
    const handler = this.#endHandler
    if (handler !== undefined) queueMicrotask(() => handler(error))
  }

  #blocked(): boolean {
    return this.#stream.writableNeedsDrain || this.#stream.writeBufferLength > 0
  }

  #watchStall(): void {
    if (this.#stallTimer === undefined) this.#restartStall()
  }

  #restartStall(): void {
    clearTimeout(this.#stallTimer)
    if (this.#ended) return
    this.#stallTimer = setTimeout(() => {
      this.#stallTimer = undefined
      if (this.#ended || !this.#blocked()) return
      if (this.#options.onStall === undefined) this.abort('The peer has stopped reading.')
      else this.#options.onStall()
    }, this.#options.stallMs ?? p2pLimits.stallMs)
    this.#stallTimer.unref()
  }

  /** Memory is freed only when both ends have closed: a peer that does not follow is cut off. */
  #resetUnlessClosed(): void {
    if (this.#stream.status !== 'open') return
    const timer = setTimeout(() => this.#stream.abort(new Error('not closed by the peer')), p2pLimits.closeMs)
    timer.unref()
    this.#stream.addEventListener('close', () => clearTimeout(timer), { once: true })
  }

  #endedError(): LlmNodeError {
    return new LlmNodeError('PEER_UNREACHABLE', 'The link to the peer has ended.', {
      ...(this.#error === undefined ? {} : { cause: this.#error }),
    })
  }
}

function dropMessage(): void {}

function toError(value: unknown): Error {
  return value instanceof Error ? value : new Error(String(value))
}

/** Joins chunks to frames. Pure: no stream, no clock. */
export interface FrameAssembler {
  /** True in the middle of a frame. */
  readonly partial: boolean
  /** Calls `deliver` for each frame that is complete, until it returns false. Throws what `frameLength` throws. */
  push(chunk: Uint8Array, deliver: (frame: Uint8Array) => boolean): void
}

export function createFrameAssembler(options: {
  readonly headerBytes: number
  readonly frameLength: (header: Uint8Array) => number
}): FrameAssembler {
  const { headerBytes, frameLength } = options
  const header = new Uint8Array(headerBytes)
  let headerHave = 0
  let buffer = new Uint8Array(0)
  let have = 0
  let total = 0

  const begin = (head: Uint8Array): void => {
    const length = frameLength(head)
    if (!Number.isSafeInteger(length) || length < headerBytes) {
      throw new LlmNodeError('BAD_FRAME', `A frame of ${length} bytes is shorter than its header.`)
    }
    total = length
  }
  /** Grows step by step, so that a header alone never makes this end allocate what it promises. */
  const reserve = (needed: number): void => {
    if (needed <= buffer.length) return
    const grown = new Uint8Array(Math.min(total, Math.max(needed, 2 * buffer.length, p2pLimits.frameFirstBytes)))
    grown.set(buffer.subarray(0, have))
    buffer = grown
  }
  const append = (bytes: Uint8Array): void => {
    reserve(have + bytes.length)
    buffer.set(bytes, have)
    have += bytes.length
  }
  const take = (): Uint8Array => {
    const frame = buffer.subarray(0, total)
    buffer = new Uint8Array(0)
    have = 0
    total = 0
    return frame
  }

  return {
    get partial() {
      return total > 0 || headerHave > 0
    },
    push(chunk, deliver) {
      let offset = 0
      while (offset < chunk.length) {
        const rest = chunk.length - offset
        if (total === 0) {
          if (headerHave > 0 || rest < headerBytes) {
            const part = chunk.subarray(offset, offset + headerBytes - headerHave)
            header.set(part, headerHave)
            headerHave += part.length
            offset += part.length
            if (headerHave < headerBytes) return
            begin(header)
            headerHave = 0
            append(header)
          } else {
            begin(chunk.subarray(offset, offset + headerBytes))
            if (rest >= total) {
              // The usual case, a small frame in one piece, is handed over without a copy.
              const frame = chunk.subarray(offset, offset + total)
              offset += total
              total = 0
              if (!deliver(frame)) return
              continue
            }
          }
        }
        const part = chunk.subarray(offset, offset + total - have)
        append(part)
        offset += part.length
        if (have === total && !deliver(take())) return
      }
    },
  }
}
