import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import { systemTimers } from '../base/timers.ts'
import { decodeAddress, encodeAddress } from '../p2p/address.ts'
import { type ContactBook, createContactBook } from '../p2p/contact-book.ts'
import type { Identity } from '../p2p/identity.ts'
import type { ReachabilityWord } from '../p2p/judge-reachability.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import { createSequenceCounter } from '../p2p/sequence.ts'
import type { Serving } from './advert.ts'
import { createSwarmCore, type SwarmCoreOptions } from './core.ts'
import { createDuplicateWatch, type DuplicateWatch } from './duplicate.ts'
import { ADVERTS_PROTOCOL, type Gossip } from './gossip.ts'
import type { Keeper } from './keeper.ts'
import type { LayerHolder } from './map.ts'
import type { OwnAdvert } from './own-advert.ts'
import type { PeerScores } from './peer-scores.ts'
import { createRendezvous, type Rendezvous } from './rendezvous.ts'
import { layerHolders, type SwarmPeer, type SwarmSources, swarmPeers } from './swarm-peers.ts'

export interface SwarmViewOptions extends SwarmCoreOptions {
  /** Keeps numbers used and seen across restarts; undefined: only in memory. */
  readonly folder?: string | undefined
}

export interface SwarmViewDeps {
  readonly peer: PeerNode
  readonly identity: Identity
  readonly clock: Clock
  readonly logger: Logger
  /** Hears who breaks the rules of records. */
  readonly scores?: Pick<PeerScores, 'broke'>
}

/** Where a node is reached, from its signed contact record. */
export interface SwarmContact {
  readonly addressKey: Uint8Array
  readonly onionKey: Uint8Array
  readonly peerId: string
  readonly addrs: readonly string[]
}

/** What this node knows of the swarm, and what the swarm knows of it. */
export interface SwarmView {
  /** After the peer node's start. A node that never publishes stays unknown. */
  start(): Promise<void>
  /** Says good-bye to the neighbours; before the peer node's stop. Idempotent. */
  stop(): Promise<void>
  /** Says what this node serves, from the first call on to everybody. Throws BAD_INPUT when it fits no advert. */
  publish(
    serving: readonly Serving[],
    options?: { readonly relay?: boolean; readonly reachability?: ReachabilityWord },
  ): Promise<void>
  /** Live peers, this node included once it has published. */
  peers(): readonly SwarmPeer[]
  /** Who serves layers of a model in a recipe, this node included. */
  holders(modelId: Uint8Array, recipe: string): readonly LayerHolder[]
  /** Throws BAD_ADDRESS, PEER_UNREACHABLE when nobody connected has a record of it, ABORTED. */
  contact(address: string, options: { signal: AbortSignal }): Promise<SwarmContact>
  /** Looks in the DHT for peers that serve a model; with how many it is connected. `nLayers` 0: unknown. Never rejects. */
  seek(modelId: Uint8Array, nLayers: number, options: { signal: AbortSignal }): Promise<number>
  /** Another machine runs with a copy of this home. */
  readonly duplicated: boolean
  /** Calls after each change of what is known; the result ends that. */
  onChange(handler: () => void): () => void
  /** Resolves at the next change, and also when the signal is aborted. */
  nextChange(signal: AbortSignal): Promise<void>
  readonly book: ContactBook
}

const GOODBYE_MS = 1_000

/** Registers its protocols with the peer node: create it before that starts. Throws HOME_UNUSABLE. */
export async function createSwarmView(options: SwarmViewOptions, deps: SwarmViewDeps): Promise<SwarmView> {
  const { network, folder } = options
  const { peer, identity, clock, logger, scores } = deps
  const listeners = new Set<() => void>()
  const onChange = () => {
    for (const listener of [...listeners]) listener()
  }
  const book = await createContactBook(
    { network, ...(folder === undefined ? {} : { folder }) },
    { identity, node: peer, clock, logger, onContradiction: (key) => scores?.broke(encodeAddress(key)) },
  )
  const sequence = await createSequenceCounter(folder === undefined ? undefined : `${folder}/advert-sequence.json`)
  const onDuplicate = () => {
    onChange()
    void own.repeat()
  }
  const duplicates = createDuplicateWatch({ network }, { sequence, logger, onFound: onDuplicate })
  const { gossip, own, keeper, sources } = await createSwarmCore(options, {
    ...{ peer, identity, book, sequence, clock, logger, onChange },
    timers: systemTimers,
    random: Math.random,
    onSelf: duplicates.see,
    onBroken: (peerId) => scores?.broke(peerId),
  })
  await peer.onPeer(ADVERTS_PROTOCOL, {
    connected: (peerId) => keeper.connected(peerId),
    disconnected: (peerId) => keeper.disconnected(peerId),
  })
  const rendezvous = createRendezvous({ dht: peer.dht, peer, logger })
  return assemble({ deps, book, own, gossip, keeper, rendezvous, duplicates, sources, listeners })
}

interface ViewParts {
  readonly deps: SwarmViewDeps
  readonly book: ContactBook
  readonly own: OwnAdvert
  readonly gossip: Gossip
  readonly keeper: Keeper
  readonly rendezvous: Rendezvous
  readonly duplicates: DuplicateWatch
  readonly sources: SwarmSources
  readonly listeners: Set<() => void>
}

function assemble({
  deps,
  book,
  own,
  gossip,
  keeper,
  rendezvous,
  duplicates,
  sources,
  listeners,
}: ViewParts): SwarmView {
  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    keeper.stop()
    rendezvous.stop()
    await own.end()
    await withinMs(gossip.flush(), GOODBYE_MS)
    gossip.stop()
    await book.stop()
  }
  const onChange = (handler: () => void) => {
    listeners.add(handler)
    return () => void listeners.delete(handler)
  }
  return {
    book,
    onChange,
    async start() {
      keeper.start()
    },
    stop: () => (stopping ??= stop()),
    async publish(serving, { relay = false, reachability = 'unknown' } = {}) {
      await book.start()
      await own.publish({ serving, relay, reachability })
      rendezvous.announce(serving)
    },
    seek: rendezvous.seek,
    get duplicated() {
      return duplicates.found
    },
    peers: () => swarmPeers(sources, deps.clock.monotonicMs()),
    holders: (modelId, recipe) => layerHolders(sources, { modelId, recipe }, deps.clock.monotonicMs()),
    async contact(address, { signal }) {
      const key = decodeAddress(address)
      const self = equalBytes(key, sources.ownKey) ? book.own() : undefined
      const { record } = self ?? (await book.find(key, { signal, ask: [...gossip.neighbours] }))
      const { addressKey, onionKey, peerId, addrs } = record
      return { addressKey, onionKey, peerId, addrs }
    },
    nextChange: (signal) =>
      new Promise((resolve) => {
        const done = () => {
          signal.removeEventListener('abort', done)
          listeners.delete(done)
          resolve()
        }
        if (signal.aborted) resolve()
        else {
          signal.addEventListener('abort', done)
          listeners.add(done)
        }
      }),
  }
}

async function withinMs(work: Promise<void>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs)
  })
  await Promise.race([work, limit])
  clearTimeout(timer)
}
