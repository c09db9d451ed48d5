import type { Timers } from '../base/timers.ts'
import type { FairTurns, TurnTaker } from './fair-turns.ts'
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
  /** For data of others: this queue's own rate, and its share of what is for all of them together. */
  readonly paced?: { readonly rate: TokenBucket; readonly turns: FairTurns; readonly peer: string }
  overflow(): void
}

/**
 * Frames to one link. Nothing pauses the sender (protocol.md §5): what waits beyond `maxBytes` ends the circuit through
 * `overflow`.
 */
export function createSendQueue(link: FrameLink, options: SendQueueOptions): SendQueue {
  return new LinkQueue(link, options)
}

class LinkQueue implements SendQueue, TurnTaker {
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
    const free = !this.#blocked && this.#waiting.length === 0
    if (free && this.#takeNow(frame.length)) this.#send(frame)
    else this.#keep(this.#waiting, frame)
  }

  pushUrgent(frame: Uint8Array): void {
    if (this.#closed) return
    if (this.#blocked) this.#keep(this.#urgent, frame)
    else this.#send(frame)
  }

  clear(): void {
    const { meter, paced } = this.#options
    this.#closed = true
    this.#cancelTimer?.()
    paced?.turns.leave(paced.peer, this)
    this.#urgent.length = 0
    this.#waiting.length = 0
    meter.remove(this.queuedBytes)
    this.queuedBytes = 0
  }

  ready(): number | undefined {
    const bytes = this.#waiting[0]?.length
    if (bytes === undefined || this.#blocked || this.#closed) return undefined
    return this.#waitForRate(bytes) ? undefined : bytes
  }

  sendNext(): void {
    const frame = this.#waiting[0]
    if (frame === undefined) return
    this.#options.paced?.rate.take(frame.length)
    this.#sendFirst(this.#waiting, frame)
  }

  #takeNow(bytes: number): boolean {
    const { paced } = this.#options
    if (paced === undefined) return true
    // The own rate last: what was taken from it is spent.
    return paced.rate.waitMs(bytes) === 0 && paced.turns.take(bytes) && paced.rate.take(bytes)
  }

  /** True: not yet; it comes back by itself. */
  #waitForRate(bytes: number): boolean {
    const waitMs = this.#options.paced?.rate.waitMs(bytes) ?? 0
    if (waitMs === 0) return false
    this.#cancelTimer ??= this.#options.timers.after(Math.ceil(waitMs), () => {
      this.#cancelTimer = undefined
      this.#flush()
    })
    return true
  }

  #keep(to: Uint8Array[], frame: Uint8Array): void {
    to.push(frame)
    this.queuedBytes += frame.length
    this.#options.meter.add(frame.length)
    if (this.queuedBytes > this.#options.maxBytes) this.#options.overflow()
    else this.#flush()
  }

  #flush(): void {
    const { paced } = this.#options
    for (let frame = this.#urgent[0]; frame !== undefined && this.#isFree(); frame = this.#urgent[0]) {
      this.#sendFirst(this.#urgent, frame)
    }
    if (!this.#isFree() || this.#waiting.length === 0) return
    if (paced !== undefined) paced.turns.wait(paced.peer, this)
    else while (this.#isFree() && this.#waiting.length > 0) this.sendNext()
  }

  #isFree(): boolean {
    return !this.#blocked && !this.#closed
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
