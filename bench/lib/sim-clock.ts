/** Virtual time for a simulation: an agenda of what happens when. Nothing waits for real time. */
import type { Clock } from '../../src/base/clock.ts'
import type { Timers } from '../../src/base/timers.ts'

interface Entry {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
  cancelled: boolean
}

export interface SimClock extends Clock, Timers {
  /** Runs all that happens until `untilMs`, and what follows from it. */
  runUntil(untilMs: number): Promise<void>
  readonly nEvents: number
}

/** The wall clock of everybody starts here; a wrong one is off by what its node adds. */
const EPOCH_MS = 1_800_000_000_000

export function createSimClock(): SimClock {
  const heap: Entry[] = []
  let [nowMs, order, nEvents] = [0, 0, 0]
  return {
    nowMs: () => Math.round(EPOCH_MS + nowMs),
    monotonicMs: () => nowMs,
    get nEvents() {
      return nEvents
    },
    after(ms, run) {
      const entry: Entry = { atMs: nowMs + Math.max(0, ms), order: order++, run, cancelled: false }
      push(heap, entry)
      return () => {
        entry.cancelled = true
      }
    },
    async runUntil(untilMs) {
      for (let next = heap[0]; next !== undefined && next.atMs <= untilMs; next = heap[0]) {
        pop(heap)
        if (next.cancelled) continue
        nowMs = next.atMs
        nEvents++
        next.run()
        // Everything that follows at once (promises) happens before time goes on.
        await new Promise((resolve) => setImmediate(resolve))
      }
      nowMs = untilMs
    },
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.length
  heap.push(entry)
  while (at > 0) {
    const parent = (at - 1) >> 1
    const above = heap[parent]
    if (above === undefined || !isBefore(entry, above)) break
    heap[at] = above
    at = parent
  }
  heap[at] = entry
}

function pop(heap: Entry[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let at = 0
  for (;;) {
    const [left, right] = [heap[2 * at + 1], heap[2 * at + 2]]
    if (left === undefined) break
    const [child, index] = right !== undefined && isBefore(right, left) ? [right, 2 * at + 2] : [left, 2 * at + 1]
    if (!isBefore(child, last)) break
    heap[at] = child
    at = index
  }
  heap[at] = last
}
