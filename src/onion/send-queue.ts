import type { Timers } from '../base/timers.ts'
import type { FrameLink } from './ports.ts'
import type { TokenBucket } from './rate-limit.ts'

/** Counts the bytes that wait somewhere in a circuit. */
export interface QueueMeter {
  add(bytes: number): void
  remove(bytes: number): void
}

export interface SendQueue {
  /** Sends at once, or keeps the frame until the link has drained and the rate allows it. Never throws. */
  push(frame: Uint8Array): void
  /** For control frames: overtakes data that waits, and no rate holds it back. */
  pushUrgent(frame: Uint8Array): void
  readonly queuedBytes: number
  /** Drops what waits. */
  clear(): void
}

export interface SendQueueOptions {
  readonly maxBytes: number
  readonly meter: QueueMeter
  readonly timers: Timers
  readonly rate?: TokenBucket
  overflow(): void
}

/**
 * Frames to one link. Nothing pauses the sender (protocol.md §5): what waits beyond `maxBytes` ends the circuit through
 * `overflow`.
 */
export function createSendQueue(link: FrameLink, options: SendQueueOptions): SendQueue {
  return new LinkQueue(link, options)
}

class LinkQueue implements SendQueue {
  queuedBytes = 0
  readonly #link: FrameLink
  readonly #options: SendQueueOptions
  readonly #urgent: Uint8Array[] = []
  readonly #waiting: Uint8Array[] = []
  #blocked = false
  #closed = false
  #cancelTimer: (() => void) | undefined

  constructor(link: FrameLink, options: SendQueueOptions) {
    this.#link = link
    this.#options = options
  }

  push(frame: Uint8Array): void {
    if (this.#closed) return
    const { rate } = this.#options
    const free = !this.#blocked && this.#waiting.length === 0
    if (free && (rate === undefined || rate.take(frame.length))) this.#send(frame)
    else this.#keep(this.#waiting, frame)
  }

  pushUrgent(frame: Uint8Array): void {
    if (this.#closed) return
    if (this.#blocked) this.#keep(this.#urgent, frame)
    else this.#send(frame)
  }

  clear(): void {
    this.#closed = true
    this.#cancelTimer?.()
    this.#urgent.length = 0
    this.#waiting.length = 0
    this.#options.meter.remove(this.queuedBytes)
    this.queuedBytes = 0
  }

  #keep(to: Uint8Array[], frame: Uint8Array): void {
    to.push(frame)
    this.queuedBytes += frame.length
    this.#options.meter.add(frame.length)
    if (this.queuedBytes > this.#options.maxBytes) this.#options.overflow()
    else this.#flush()
  }

  #flush(): void {
    const { rate, timers } = this.#options
    while (!this.#blocked && !this.#closed) {
      const first = this.#urgent[0]
      const next = this.#waiting[0]
      if (first !== undefined) this.#sendFirst(this.#urgent, first)
      else if (next === undefined) return
      else if (rate === undefined || rate.take(next.length)) this.#sendFirst(this.#waiting, next)
      else {
        this.#cancelTimer ??= timers.after(Math.ceil(rate.waitMs(next.length)), () => {
          this.#cancelTimer = undefined
          this.#flush()
        })
        return
      }
    }
  }

  #sendFirst(from: Uint8Array[], frame: Uint8Array): void {
    from.shift()
    this.queuedBytes -= frame.length
    this.#options.meter.remove(frame.length)
    this.#send(frame)
  }

  #send(frame: Uint8Array): void {
    try {
      if (this.#link.send(frame)) return
    } catch {
      // The link has ended; its onEnd says so to the circuit.
      this.clear()
      return
    }
    this.#blocked = true
    this.#link.drained().then(
      () => {
        this.#blocked = false
        this.#flush()
      },
      () => this.clear(),
    )
  }
}
