import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Timers } from '../base/timers.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import type { Identity } from '../p2p/identity.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { SequenceCounter } from '../p2p/sequence.ts'
import { type Advert, nodeIdOf } from './advert.ts'
import { type AdvertTableOptions, createAdvertTable } from './advert-table.ts'
import { createFeeds } from './feeds.ts'
import { createGossip, type Gossip } from './gossip.ts'
import type { GossipItem } from './gossip-messages.ts'
import { createKeeper, type Keeper } from './keeper.ts'
import { createOwnAdvert, type OwnAdvert } from './own-advert.ts'
import { createRoundTrips } from './round-trips.ts'
import type { SwarmPeer, SwarmSources } from './swarm-peers.ts'

export interface SwarmCoreOptions {
  /** VER: name of the network. */
  readonly network: string
  /** Of the software. */
  readonly version: string
  /** How often neighbours are measured and ages looked at; default 5 s. */
  readonly tickMs?: number | undefined
  /** Connect to some peers by itself, so as to hang on nobody; default true. */
  readonly mesh?: boolean | undefined
  /** Whom of them; default: everybody. */
  readonly mayMeet?: ((peer: SwarmPeer) => boolean) | undefined
}

export interface SwarmCoreDeps {
  readonly peer: Pick<PeerNode, 'self' | 'isConnected' | 'connect' | 'ping' | 'request' | 'handle'> &
    Partial<Pick<PeerNode, 'connectionTo'>>
  readonly identity: Pick<Identity, 'addressKey' | 'peerId' | 'sign'>
  readonly book: Pick<ContactBook, 'own' | 'get' | 'accept' | 'onPublished'>
  readonly sequence: SequenceCounter
  readonly clock: Clock
  readonly timers: Timers
  /** In [0, 1). */
  readonly random: () => number
  readonly logger: Logger
  readonly verify?: AdvertTableOptions['verify']
  readonly onSelf?: (item: GossipItem) => void
  readonly onChange: () => void
  /** This PeerId has told something that no honest program tells. */
  readonly onBroken?: ((peerId: string) => void) | undefined
}

/** How a node learns of the others and they of it, without files or sockets of its own: bench/swarm-sim.ts runs 10,000. */
export interface SwarmCore {
  readonly sources: SwarmSources
  readonly gossip: Gossip
  readonly own: OwnAdvert
  readonly keeper: Keeper
}

/** Registers `/llm/adverts/1`: before the node starts. */
export async function createSwarmCore(options: SwarmCoreOptions, deps: SwarmCoreDeps): Promise<SwarmCore> {
  const { network, version, tickMs, mesh = true, mayMeet = () => true } = options
  const { peer, identity, book, sequence, clock, timers, random, logger, onSelf, onChange } = deps
  const ownKey = identity.addressKey
  const isConnected = (peerId: string) => peer.isConnected(peerId)
  const table = createAdvertTable({
    network,
    ownKey,
    isNeighbour: isConnected,
    ...(deps.verify === undefined ? {} : { verify: deps.verify }),
  })
  const feeds = createFeeds(random)
  const shared = { table, feeds, book, clock, timers, random, logger, onChange }
  const gossip = await createGossip(network, { ...shared, node: peer, ownKey, onSelf, onBroken: deps.onBroken })
  const trips = createRoundTrips()
  const isDirect = (peerId: string) => (peer.connectionTo?.(peerId)?.transport ?? 'relay') !== 'relay'
  const sources: SwarmSources = { table, book, ownKey, isConnected, isDirect, rttMs: (peerId) => trips.get(peerId) }
  const neighbours = () => neighboursOf(sources, clock.monotonicMs())
  const spread: Gossip['spread'] = (key, change, spreading) => gossip.spread(key, change, spreading)
  const own = createOwnAdvert({ network, version }, { ...shared, identity, sequence, neighbours, spread })
  book.onPublished(() => gossip.spread(ownKey, 'contact'))
  const keeper = createKeeper({ ...shared, peer, sources, gossip, trips, own, tickMs, mesh, mayMeet })
  return { sources, gossip, own, keeper }
}

/** The nearest measured neighbours, for the advert. */
function neighboursOf({ table, ownKey, rttMs }: SwarmSources, nowMs: number): Advert['neighbours'] {
  const measured: Advert['neighbours'][number][] = []
  for (const { advert } of table.live(nowMs)) {
    const rtt = rttMs(advert.peerId)
    if (rtt !== null && !equalBytes(advert.addressKey, ownKey)) {
      measured.push({ nodeId: nodeIdOf(advert.addressKey), rttMs: rtt })
    }
  }
  return measured
    .sort((a, b) => a.rttMs - b.rttMs || (a.nodeId < b.nodeId ? -1 : 1))
    .slice(0, coverageLimits.advertNeighbours)
}
