/** Bytes per second over the last few seconds. */
export interface Speedometer {
  note(bytes: number, nowMs: number): void
  /** Null in the first moment. */
  perSecond(): number | null
}

const WINDOW_MS = 5_000
const FIRST_MS = 500

export function createSpeedometer(): Speedometer {
  const points: { bytes: number; ms: number }[] = []
  return {
    note(bytes, ms) {
      points.push({ bytes, ms })
      while (points.length > 2 && (points[0]?.ms ?? ms) < ms - WINDOW_MS) points.shift()
    },
    perSecond() {
      const [first] = points
      const last = points.at(-1)
      if (first === undefined || last === undefined || last.ms - first.ms < FIRST_MS) return null
      return Math.max(1, ((last.bytes - first.bytes) * 1_000) / (last.ms - first.ms))
    },
  }
}
