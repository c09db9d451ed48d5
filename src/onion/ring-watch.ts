import type { Clock } from '../base/clock.ts'
import type { Timers } from '../base/timers.ts'
import type { OnionLimits } from './types.ts'

export interface WatchedFrame {
  /** Since when this frame is the oldest one without an answer. */
  readonly sinceMs: number
  readonly deadlineMs: number
  /** After so long without an answer the hops are asked whether they are there. */
  readonly silenceMs: number
}

export interface RingWatch {
  /** A frame has been sent. Costs nothing while the watch runs: one timer looks at what is oldest when it fires. */
  kick(): void
  stop(): void
}

/** Finds out in time that a ring no longer answers, and where (protocol.md §6). */
export function createRingWatch(
  deps: { clock: Clock; timers: Timers },
  hooks: {
    oldest(): WatchedFrame | undefined
    /** PINGs all hops at once; the first hop that did not answer, or undefined. */
    ping(): Promise<number | undefined>
    /** `hop`: undefined when all hops answer and still no result came before the deadline. */
    broken(hop: number | undefined): void
  },
): RingWatch {
  const { clock, timers } = deps
  let cancel: (() => void) | undefined
  let stopped = false
  let askedMs = Number.NEGATIVE_INFINITY
  let asking = false

  const arm = (ms: number) => {
    cancel = timers.after(Math.max(1, Math.ceil(ms)), look)
  }
  const ask = (waitedSinceMs: number) => {
    asking = true
    askedMs = clock.monotonicMs()
    hooks.ping().then((hop) => {
      asking = false
      // A result that came meanwhile is the better proof that all hops are there.
      const stillWaiting = hooks.oldest()?.sinceMs === waitedSinceMs
      if (hop !== undefined && stillWaiting && !stopped) hooks.broken(hop)
    })
  }
  const look = () => {
    cancel = undefined
    const frame = hooks.oldest()
    if (stopped || frame === undefined) return
    const nowMs = clock.monotonicMs()
    const waitedMs = nowMs - frame.sinceMs
    if (waitedMs >= frame.deadlineMs) {
      hooks.broken(undefined)
      return
    }
    const quietMs = nowMs - Math.max(frame.sinceMs, askedMs)
    if (quietMs >= frame.silenceMs && !asking) ask(frame.sinceMs)
    const untilSilence = quietMs >= frame.silenceMs ? frame.silenceMs : frame.silenceMs - quietMs
    arm(Math.min(untilSilence, frame.deadlineMs - waitedMs))
  }

  return {
    kick() {
      if (cancel !== undefined || stopped) return
      const frame = hooks.oldest()
      if (frame !== undefined) arm(frame.silenceMs)
    },
    stop() {
      stopped = true
      cancel?.()
    },
  }
}

/** Moving average of answers, and the bounds that follow from it. */
export function createPace(limits: OnionLimits) {
  let averageMs: number | undefined
  return {
    add(ms: number): void {
      averageMs = averageMs === undefined ? ms : averageMs + 0.2 * (ms - averageMs)
    },
    deadlineMs: (): number => Math.max(limits.stepMs, 10 * (averageMs ?? limits.prefillMs / 10)),
    silenceMs: (): number => Math.max(limits.silenceMs, 5 * (averageMs ?? 0)),
  }
}
