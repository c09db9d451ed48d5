/** A keeper on virtual time, with peers that are only entries of a table. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { createSimClock, type SimClock } from '../../../bench/lib/sim-clock.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import type { Timers } from '../../../src/base/timers.ts'
import type { Advert } from '../../../src/coverage/advert.ts'
import { type AdvertTable, createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { positionOf } from '../../../src/coverage/crowd.ts'
import { createFeeds } from '../../../src/coverage/feeds.ts'
import { createKeeper, type Keeper } from '../../../src/coverage/keeper.ts'
import { createRoundTrips, type RoundTrips } from '../../../src/coverage/round-trips.ts'
import type { StoredContact } from '../../../src/p2p/contact-book.ts'
import type { PeerNode } from '../../../src/p2p/peer-node.ts'
import { serving } from './advert-helpers.ts'
import { createRandom } from './swarm-simulation.ts'

export const PEERS = 60
export const TICK_MS = 1_000

const [ownKey = new Uint8Array(32), ...others] = Array.from({ length: PEERS + 1 }, (_, i) =>
  ed25519.getPublicKey(new Uint8Array(32).fill(i + 1)),
)
const distance = (key: Uint8Array) => (positionOf(key) ^ positionOf(ownKey)) >>> 0
/** Nearest first. */
const keys = [...others].sort((a, b) => distance(a) - distance(b))
export const peerIdOf = (index: number) => `peer ${index}`

function advertOf(index: number): Advert {
  const rest = { neighbours: [], version: '1', chainEnd: new Uint8Array(16) }
  const addressKey = keys[index] ?? new Uint8Array(32)
  const peerId = peerIdOf(index)
  return { addressKey, peerId, sequence: 1, serving: [serving], relay: true, reachability: 'public', ...rest }
}

const times = { sequence: 1, issuedMs: 0, expiresMs: 1, onionKeyEndsMs: 1 }
const contact: StoredContact = {
  bytes: new Uint8Array(),
  record: {
    ...times,
    flags: 0,
    addressKey: ownKey,
    onionKey: ownKey,
    peerId: '',
    addrs: ['/dns4/a/tcp/1'],
    familyKeys: [],
  },
}

export interface LoneKeeper {
  readonly keeper: Keeper
  readonly clock: SimClock
  readonly table: AdvertTable
  readonly trips: RoundTrips
  /** To whom it has connected, in that order. */
  readonly dialled: readonly string[]
  /** When it compared what it knows with that of others, in ms. */
  readonly synced: readonly number[]
}

/** A node that knows 60 peers, or `nKnown`, and is connected to the `nFar` farthest of them. */
export function createLoneKeeper(options: {
  readonly nFar: number
  readonly crowd: number
  readonly nKnown?: number
  readonly ping?: PeerNode['ping']
  readonly timersOf?: (clock: SimClock) => Timers
}): LoneKeeper {
  const { nFar, crowd, nKnown = PEERS, ping = async () => 1, timersOf = (clock) => clock } = options
  const [clock, random] = [createSimClock(), createRandom(5)]
  const connected = new Set(Array.from({ length: nFar }, (_, i) => peerIdOf(PEERS - 1 - i)))
  const verify = (bytes: Uint8Array) => advertOf(bytes[0] ?? 0)
  const isConnected = (peerId: string) => connected.has(peerId)
  const table = createAdvertTable({ network: 'mesh', crowd, ownKey, verify, isNeighbour: isConnected })
  for (let i = 0; i < nKnown; i++) table.addAdvert(Uint8Array.of(i), 0, 0)
  const trips = createRoundTrips()
  const dialled: string[] = []
  const synced: number[] = []
  const keeper = createKeeper({
    peer: {
      self: { peerId: 'self', addrs: () => [] },
      isConnected,
      async connect({ peerId }) {
        dialled.push(peerId)
        connected.add(peerId)
      },
      ping,
    },
    ...{ clock, timers: timersOf(clock), random, logger: silentLogger, tickMs: TICK_MS },
    sources: {
      ...{ table, ownKey, isConnected, isDirect: isConnected, rttMs: () => null },
      book: { own: () => undefined, get: () => contact },
    },
    gossip: {
      neighbours: connected,
      join: (peerId: string) => void connected.add(peerId),
      leave() {},
      sync: async () => void synced.push(clock.monotonicMs()),
    },
    feeds: createFeeds(random),
    trips,
    own: { tick: async () => {} },
    onChange: () => {},
    mesh: true,
    mayMeet: () => true,
  })
  return { keeper, clock, table, trips, dialled, synced }
}
