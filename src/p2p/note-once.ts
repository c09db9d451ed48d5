import type { Peer, PeerData, PeerId, PeerStore } from '@libp2p/interface'

/** libp2p lets go of addresses of which it has not heard for a day; far sooner the same is noted anew. */
const ANEW_MS = 600_000

/** What was written about a peer: each address and protocol, and when. */
interface Noted {
  readonly peer: Peer
  readonly times: ReadonlyMap<string, number>
}

/**
 * libp2p notes with every stream, at both ends, that the peer speaks its protocol, and with every answer of the DHT where
 * each of 20 peers is: what is stored is read, decoded, encoded and written to the disk again, before the stream is handed
 * over. That is more than half of what a short stream costs (ADR 0025). Addresses and protocols that were just written are
 * not written again. Remembers the last `peers` peers.
 */
export function noteOnce(store: PeerStore, options: { peers: number; nowMs: () => number }): void {
  const { peers, nowMs } = options
  const noted = new Map<string, Noted>()
  const remember = (id: PeerId, data: PeerData, peer: Peer): Peer => {
    const name = id.toString()
    const stored = new Set(itemsOf(name, { ...peer, multiaddrs: peer.addresses.map(({ multiaddr }) => multiaddr) }))
    const times = new Map([...(noted.get(name)?.times ?? [])].filter(([item]) => stored.has(item)))
    for (const item of itemsOf(name, data)) if (stored.has(item)) times.set(item, nowMs())
    // The oldest first.
    noted.delete(name)
    noted.set(name, { peer, times })
    const [oldest] = noted.keys()
    if (noted.size > peers && oldest !== undefined) noted.delete(oldest)
    return peer
  }
  const { merge, patch, save, delete: remove } = boundTo(store)
  store.merge = async (id, data, rest) => {
    const known = noted.get(id.toString())
    const isFresh = (item: string) => (known?.times.get(item) ?? Number.NEGATIVE_INFINITY) > nowMs() - ANEW_MS
    const { multiaddrs: _, protocols: __, ...more } = data
    const isKnown = Object.keys(more).length === 0 && itemsOf(id.toString(), data).every(isFresh)
    if (known !== undefined && isKnown) return known.peer
    return remember(id, data, await merge(id, data, rest))
  }
  store.patch = async (id, data, rest) => remember(id, data, await patch(id, data, rest))
  store.save = async (id, data, rest) => remember(id, data, await save(id, data, rest))
  store.delete = async (id, rest) => {
    await remove(id, rest)
    noted.delete(id.toString())
  }
}

function boundTo(store: PeerStore): Pick<PeerStore, 'merge' | 'patch' | 'save' | 'delete'> {
  return {
    merge: store.merge.bind(store),
    patch: store.patch.bind(store),
    save: store.save.bind(store),
    delete: store.delete.bind(store),
  }
}

/** Addresses, which are stored without the peer's own id, and protocols. */
function itemsOf(
  peerId: string,
  { multiaddrs = [], protocols = [] }: Pick<PeerData, 'multiaddrs' | 'protocols'>,
): string[] {
  const own = `/p2p/${peerId}`
  const addrs = multiaddrs.map((multiaddr) => `at ${multiaddr.toString().replace(own, '')}`)
  return [...addrs, ...protocols.map((protocol) => `speaks ${protocol}`)]
}
