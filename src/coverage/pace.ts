/** How long something may wait: the more peers there are, the longer, within bounds. */
export interface Pace {
  readonly minMs: number
  readonly msPerPeer: number
  readonly maxMs: number
}

export function pausedFor({ minMs, msPerPeer, maxMs }: Pace, nPeers: number): number {
  return Math.max(minMs, Math.min(maxMs, msPerPeer * nPeers))
}
