import type { Clock } from '../../../src/base/clock.ts'
import type { Timers } from '../../../src/base/timers.ts'

export interface VirtualClock extends Clock, Timers {
  /** Lets `ms` pass: fires what is due in order, and lets everything that follows from it happen in between. */
  advance(ms: number): Promise<void>
  readonly timers: number
}

/** Lets every promise and microtask that can run, run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export function createVirtualClock(): VirtualClock {
  let nowMs = 1_000_000
  let counter = 0
  const timers = new Map<number, { atMs: number; run: () => void }>()
  const nextDue = (untilMs: number) => {
    let first: [number, { atMs: number; run: () => void }] | undefined
    for (const entry of timers) {
      if (entry[1].atMs <= untilMs && (first === undefined || entry[1].atMs < first[1].atMs)) first = entry
    }
    return first
  }
  return {
    nowMs: () => 1_700_000_000_000 + nowMs,
    monotonicMs: () => nowMs,
    get timers() {
      return timers.size
    },
    after(ms, run) {
      const id = counter++
      timers.set(id, { atMs: nowMs + ms, run })
      return () => timers.delete(id)
    },
    async advance(ms) {
      const endMs = nowMs + ms
      await settle()
      for (let due = nextDue(endMs); due !== undefined; due = nextDue(endMs)) {
        timers.delete(due[0])
        nowMs = Math.max(nowMs, due[1].atMs)
        due[1].run()
        await settle()
      }
      nowMs = endMs
      await settle()
    },
  }
}
