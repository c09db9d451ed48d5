import type { ConnectionGater, PeerId } from '@libp2p/interface'
import { createRecentMap } from '../base/recent-map.ts'

/** Peers remembered: ~100 B each. */
const MOST = 1_024

/** Peers from whom no connection is taken for a while. */
export interface ShutOut {
  add(peerId: string, ms: number): void
  readonly gater: Pick<ConnectionGater, 'denyInboundEncryptedConnection'>
}

export function createShutOut(nowMs: () => number): ShutOut {
  const untilMs = createRecentMap<number>(MOST)
  return {
    add: (peerId, ms) => untilMs.set(peerId, nowMs() + ms),
    gater: {
      denyInboundEncryptedConnection: (peer: PeerId) => (untilMs.get(peer.toString()) ?? 0) > nowMs(),
    },
  }
}
