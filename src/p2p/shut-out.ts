import type { ConnectionGater, PeerId } from '@libp2p/interface'

/** Peers remembered: ~100 B each. */
const MOST = 1_024

/** Peers from whom no connection is taken for a while. */
export interface ShutOut {
  add(peerId: string, ms: number): void
  readonly gater: Pick<ConnectionGater, 'denyInboundEncryptedConnection'>
}

export function createShutOut(nowMs: () => number): ShutOut {
  const untilMs = new Map<string, number>()
  return {
    add(peerId, ms) {
      untilMs.delete(peerId)
      untilMs.set(peerId, nowMs() + ms)
      for (const oldest of untilMs.keys()) {
        if (untilMs.size <= MOST) break
        untilMs.delete(oldest)
      }
    },
    gater: {
      denyInboundEncryptedConnection: (peer: PeerId) => (untilMs.get(peer.toString()) ?? 0) > nowMs(),
    },
  }
}
