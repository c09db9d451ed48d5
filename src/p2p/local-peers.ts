import type { PeerInfo } from '@libp2p/interface'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Host } from './host.ts'

/** Dials peers that mDNS has found. */
export interface LocalPeers {
  found(peer: PeerInfo): void
  stop(): void
}

/** Pauses before the second and third attempt: the first may come before one of the two nodes has fully started. */
const AGAIN_MS = [1_000, 3_000]

/**
 * Both sides often find each other in the same instant: the one with the greater PeerId then waits a moment, so that one
 * connection comes about and not two. A peer that does not answer three times is left alone for a while.
 */
export function createLocalPeers(deps: { host: Host; logger: Logger }): LocalPeers {
  const { host, logger } = deps
  const stopping = new AbortController()
  const notBefore = new Map<string, number>()

  const dial = async (peer: PeerInfo): Promise<void> => {
    if (stopping.signal.aborted || host.getConnections(peer.id).length > 0) return
    const addrs = peer.multiaddrs
      .slice(0, p2pLimits.addressesPerPeer)
      .map((addr) => addr.encapsulate(`/p2p/${peer.id}`))
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(p2pLimits.connectMs)])
    await host.dial(addrs, { signal })
  }
  const dialLater = (peer: PeerInfo, waitMs: number, attempt: number): void => {
    setTimeout(() => {
      dial(peer).catch((error) => {
        logger.debug({ peerId: peer.id.toString(), err: error }, 'a peer on the LAN does not answer')
        const pauseMs = AGAIN_MS[attempt]
        if (pauseMs !== undefined && !stopping.signal.aborted) dialLater(peer, pauseMs, attempt + 1)
      })
    }, waitMs).unref()
  }

  return {
    found(peer) {
      const id = peer.id.toString()
      if (stopping.signal.aborted || peer.id.equals(host.peerId) || peer.multiaddrs.length === 0) return
      if (host.getConnections(peer.id).length > 0) return
      const nowMs = performance.now()
      if ((notBefore.get(id) ?? 0) > nowMs) return
      // The oldest entry goes: whoever floods the LAN with names gains nothing but a few dials each.
      if (notBefore.size >= p2pLimits.localPeers) notBefore.delete(notBefore.keys().next().value ?? '')
      notBefore.set(id, nowMs + p2pLimits.localRetryMs)
      dialLater(peer, id > host.peerId.toString() ? 0 : p2pLimits.localTurnMs, 0)
    },
    stop() {
      stopping.abort()
    },
  }
}
