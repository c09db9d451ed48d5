import { equalBytes, toHex } from '../base/bytes.ts'
import { encodeAddress } from '../p2p/address.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import type { ReachabilityWord } from '../p2p/judge-reachability.ts'
import { type Advert, nodeIdOf, type Serving } from './advert.ts'
import type { AdvertEntry, AdvertTable } from './advert-table.ts'
import type { LayerHolder, ServingState } from './map.ts'

/** One live peer of the swarm, as its advert says and as seen from here. */
export interface SwarmPeer {
  /** `.llm` address. */
  readonly address: string
  readonly addressKey: Uint8Array
  readonly peerId: string
  /** This node itself. */
  readonly self: boolean
  readonly serving: readonly Serving[]
  /** Of its first model; a node without layers is online. */
  readonly state: ServingState
  readonly relay: boolean
  readonly reachability: ReachabilityWord
  readonly version: string
  readonly connected: boolean
  /** Round trip in ms; null while unknown. */
  readonly rttMs: number | null
  /** Ms since its last sign of life. */
  readonly ageMs: number
  /** Multiaddrs from its contact record; empty while that is missing. */
  readonly addrs: readonly string[]
  /** Addresses that its contact record names as its owner's other nodes. */
  readonly family: readonly string[]
}

export interface SwarmSources {
  readonly table: AdvertTable
  readonly book: Pick<ContactBook, 'own' | 'get'>
  readonly ownKey: Uint8Array
  readonly isConnected: (peerId: string) => boolean
  /** Connected, and not through a relay. */
  readonly isDirect: (peerId: string) => boolean
  readonly rttMs: (peerId: string) => number | null
}

export function swarmPeers(sources: SwarmSources, nowMs: number): SwarmPeer[] {
  return sources.table.live(nowMs).map((entry) => describe(entry, sources, nowMs))
}

function describe(entry: AdvertEntry, sources: SwarmSources, nowMs: number): SwarmPeer {
  const { advert } = entry
  const self = equalBytes(advert.addressKey, sources.ownKey)
  const contact = self ? sources.book.own() : sources.book.get(advert.addressKey)
  return {
    address: addressOf(advert),
    addressKey: advert.addressKey,
    peerId: advert.peerId,
    self,
    serving: advert.serving,
    state: advert.serving[0]?.state ?? 'online',
    relay: advert.relay,
    reachability: advert.reachability,
    version: advert.version,
    connected: !self && sources.isConnected(advert.peerId),
    rttMs: self ? 0 : sources.rttMs(advert.peerId),
    ageMs: sources.table.ageMs(entry, nowMs),
    addrs: contact?.record.addrs ?? [],
    family: contact?.record.familyKeys.map(encodeAddress) ?? [],
  }
}

/** Everybody who serves layers of a model in a recipe, this node included. What map.ts and route.ts work on. */
export function layerHolders(
  sources: SwarmSources,
  wanted: { modelId: Uint8Array; recipe: string },
  nowMs: number,
): LayerHolder[] {
  const live = sources.table.live(nowMs)
  const addressByNode = new Map(live.map(({ advert }) => [nodeIdOf(advert.addressKey), addressOf(advert)]))
  return live.flatMap(({ advert }) =>
    advert.serving
      .filter((serving) => serving.recipe === wanted.recipe && equalBytes(serving.modelId, wanted.modelId))
      .map((serving): LayerHolder => {
        const self = equalBytes(advert.addressKey, sources.ownKey)
        return {
          address: addressOf(advert),
          span: serving.span,
          state: serving.state,
          numericsClass: toHex(serving.numericsClass),
          decodeMs: serving.decodeMs,
          freeKvTokens: serving.freeKvTokens,
          // On a LAN the link is direct, whatever the way in from outside.
          relayed: advert.reachability === 'relayed' && !sources.isDirect(advert.peerId),
          rttMs: self ? 0 : sources.rttMs(advert.peerId),
          neighbourRttMs: neighbourRtts(advert, addressByNode),
        }
      }),
  )
}

function neighbourRtts(advert: Advert, addressByNode: ReadonlyMap<string, string>): ReadonlyMap<string, number> {
  const rtts = new Map<string, number>()
  for (const { nodeId, rttMs } of advert.neighbours) {
    const address = addressByNode.get(nodeId)
    if (address !== undefined) rtts.set(address, rttMs)
  }
  return rtts
}

/** Encoding checks the curve point; each address is worked out once. */
const addresses = new WeakMap<Uint8Array, string>()
function addressOf(advert: Advert): string {
  const known = addresses.get(advert.addressKey)
  if (known !== undefined) return known
  const address = encodeAddress(advert.addressKey)
  addresses.set(advert.addressKey, address)
  return address
}
