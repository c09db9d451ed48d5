/** Round trips to the connected neighbours: the median of the last few samples (swarm.md §5). */
export interface RoundTrips {
  add(peerId: string, rttMs: number): void
  forget(peerId: string): void
  /** Null while unknown. */
  get(peerId: string): number | null
  has(peerId: string): boolean
}

const SAMPLES = 5

export function createRoundTrips(): RoundTrips {
  const samples = new Map<string, number[]>()
  return {
    add(peerId, rttMs) {
      const own = samples.get(peerId) ?? []
      samples.set(peerId, own)
      own.push(rttMs)
      if (own.length > SAMPLES) own.shift()
    },
    forget: (peerId) => void samples.delete(peerId),
    get(peerId) {
      const sorted = [...(samples.get(peerId) ?? [])].sort((a, b) => a - b)
      return sorted[(sorted.length - 1) >> 1] ?? null
    },
    has: (peerId) => samples.has(peerId),
  }
}
