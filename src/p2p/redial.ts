import type { Multiaddr } from '@multiformats/multiaddr'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Host } from './host.ts'
import { parseMultiaddr } from './peer-addrs.ts'

/** libp2p dials peers with a tag of this beginning again after a loss (connection-manager/reconnect-queue). */
const KEEP_TAG = 'keep-alive-llm-node'

export interface Redialler {
  /** Dials the bootstrap addresses and the peers known from earlier, at once and then until it is connected. */
  start(): void
  stop(): void
}

/**
 * Keeps a node in its network: each bootstrap address is dialled until it answered once; when no connection is left,
 * bootstrap addresses and known peers are dialled again, with pauses that double from 1 s to 60 s.
 */
export function createRedialler(
  options: { bootstrap: readonly string[] },
  deps: { host: Host; logger: Logger },
): Redialler {
  const { host, logger } = deps
  const bootstrap = options.bootstrap.map(parseMultiaddr)
  const unanswered = new Set(bootstrap)
  const stopping = new AbortController()
  let pauseMs: number = p2pLimits.redialFirstMs
  let timer: NodeJS.Timeout | undefined
  let round: Promise<void> | undefined

  const dial = async (addr: Multiaddr): Promise<void> => {
    const connection = await host.dial(addr, { signal: dialSignal(stopping.signal) })
    unanswered.delete(addr)
    await host.peerStore.merge(connection.remotePeer, { tags: { [KEEP_TAG]: { value: 50 } } })
  }
  const dialKnown = async (): Promise<void> => {
    const peers = await host.peerStore.all({ limit: 4 * p2pLimits.redialAtStart })
    const others = peers.filter((peer) => !peer.id.equals(host.peerId) && peer.addresses.length > 0)
    await Promise.allSettled(
      others
        .slice(0, p2pLimits.redialAtStart)
        .map((peer) => host.dial(peer.id, { signal: dialSignal(stopping.signal) })),
    )
  }
  const runRound = async (): Promise<void> => {
    const alone = host.getConnections().length === 0
    const addrs = alone ? bootstrap : [...unanswered]
    const results = await Promise.allSettled([...addrs.map(dial), ...(alone ? [dialKnown()] : [])])
    for (const [index, result] of results.entries()) {
      if (result.status === 'rejected' && !stopping.signal.aborted) {
        logger.debug({ addr: addrs[index]?.toString(), err: result.reason }, 'a bootstrap address does not answer')
      }
    }
  }
  const schedule = (): void => {
    if (stopping.signal.aborted || timer !== undefined || round !== undefined) return
    const needed = unanswered.size > 0 || host.getConnections().length === 0
    if (!needed) {
      pauseMs = p2pLimits.redialFirstMs
      return
    }
    // Jitter, so that a swarm whose bootstrap node restarts does not come back in one instant.
    timer = setTimeout(attempt, pauseMs * (0.75 + Math.random() / 2))
    timer.unref()
    pauseMs = Math.min(2 * pauseMs, p2pLimits.redialMaxMs)
  }
  const attempt = (): void => {
    timer = undefined
    round = runRound().finally(() => {
      round = undefined
      schedule()
    })
    round.catch((error) => logger.debug({ err: error }, 'redialling failed'))
  }
  const onDisconnect = (): void => {
    if (host.getConnections().length === 0) schedule()
  }

  return {
    start() {
      host.addEventListener('peer:disconnect', onDisconnect)
      attempt()
    },
    stop() {
      host.removeEventListener('peer:disconnect', onDisconnect)
      stopping.abort()
      clearTimeout(timer)
    },
  }
}

function dialSignal(stopping: AbortSignal): AbortSignal {
  return AbortSignal.any([stopping, AbortSignal.timeout(p2pLimits.connectMs)])
}
