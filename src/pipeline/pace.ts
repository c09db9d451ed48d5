import { pipelineLimits } from '../base/limits.ts'

/** How long the last steps of an answer took. */
export interface Pace {
  add(ms: number): void
  /** What 19 of 20 steps stayed below, in ms; undefined while too few are known. */
  p95(): number | undefined
}

const KEPT = 64
const ENOUGH = 16

export function createPace(): Pace {
  const last: number[] = []
  return {
    add(ms) {
      last.push(ms)
      if (last.length > KEPT) last.shift()
    },
    p95() {
      if (last.length < ENOUGH) return undefined
      const sorted = [...last].sort((a, b) => a - b)
      return Math.max(sorted[Math.floor(0.95 * sorted.length)] ?? 0, pipelineLimits.hedgeLeastMs)
    },
  }
}
