import type { Peer, PeerId, PeerStore } from '@libp2p/interface'

/** libp2p lets go of peers of which nothing was noted for days; far sooner the same is noted anew. */
const ANEW_MS = 600_000

interface Noted {
  readonly peer: Peer
  readonly atMs: number
  readonly protocols: Set<string>
}

/**
 * libp2p notes with every stream, at both ends, that the peer speaks its protocol: what is stored is read, decoded, encoded
 * and written to the disk again, before the stream is handed over. That is more than half of what a short stream costs
 * (a ping over loopback 1.7 ms of processor time, 1.0 without). What was just noted is not noted twice; any other change
 * of what is known about a peer makes that start anew. Remembers at most `peers` of them.
 */
export function noteProtocolsOnce(store: PeerStore, options: { peers: number; nowMs: () => number }): void {
  const { peers, nowMs } = options
  const noted = new Map<string, Noted>()
  const forgetting =
    <A extends unknown[], R>(write: (id: PeerId, ...rest: A) => Promise<R>) =>
    async (id: PeerId, ...rest: A): Promise<R> => {
      try {
        return await write(id, ...rest)
      } finally {
        noted.delete(id.toString())
      }
    }
  const merge = store.merge.bind(store)
  const mergeMore = forgetting(merge)
  store.merge = async (id, data, rest) => {
    const protocol = onlyProtocol(data)
    if (protocol === undefined) return await mergeMore(id, data, rest)
    const before = noted.get(id.toString())
    if (before?.protocols.has(protocol) && nowMs() - before.atMs < ANEW_MS) return before.peer
    const peer = await merge(id, data, rest)
    if (noted.size >= peers) noted.clear()
    noted.set(id.toString(), { peer, atMs: nowMs(), protocols: new Set(peer.protocols) })
    return peer
  }
  store.patch = forgetting(store.patch.bind(store))
  store.save = forgetting(store.save.bind(store))
  store.delete = forgetting(store.delete.bind(store))
}

/** The protocol when nothing else is to be noted. */
function onlyProtocol({ protocols, ...rest }: Parameters<PeerStore['merge']>[1]): string | undefined {
  return protocols?.length === 1 && Object.keys(rest).length === 0 ? protocols[0] : undefined
}
