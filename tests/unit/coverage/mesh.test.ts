/** Connections that a node makes by itself: a few anywhere, and in a crowd some more to those nearest to it. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, it } from 'vitest'
import { createSimClock } from '../../../bench/lib/sim-clock.ts'
import { coverageLimits } from '../../../src/base/limits.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import type { Advert } from '../../../src/coverage/advert.ts'
import { createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { positionOf } from '../../../src/coverage/crowd.ts'
import { createFeeds } from '../../../src/coverage/feeds.ts'
import { createKeeper } from '../../../src/coverage/keeper.ts'
import { createRoundTrips } from '../../../src/coverage/round-trips.ts'
import type { StoredContact } from '../../../src/p2p/contact-book.ts'
import { serving } from './advert-helpers.ts'
import { createRandom } from './swarm-simulation.ts'

const { meshMost, meshPeers } = coverageLimits
const PEERS = 60
/** Of those nearest, with whom a node in a crowd connects: NEAR in keeper.ts. */
const NEAR = 4
const TICK_MS = 1_000

const [ownKey = new Uint8Array(32), ...others] = Array.from({ length: PEERS + 1 }, (_, i) =>
  ed25519.getPublicKey(new Uint8Array(32).fill(i + 1)),
)
const distance = (key: Uint8Array) => (positionOf(key) ^ positionOf(ownKey)) >>> 0
/** Nearest first. */
const keys = [...others].sort((a, b) => distance(a) - distance(b))
const peerIdOf = (index: number) => `peer ${index}`

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

/** A node that knows 60 peers and is connected to the `nFar` farthest of them: to whom it connects, in that order. */
async function meshOf(nFar: number, crowd: number): Promise<string[]> {
  const [clock, random] = [createSimClock(), createRandom(5)]
  const connected = new Set(Array.from({ length: nFar }, (_, i) => peerIdOf(PEERS - 1 - i)))
  const verify = (bytes: Uint8Array) => advertOf(bytes[0] ?? 0)
  const isConnected = (peerId: string) => connected.has(peerId)
  const table = createAdvertTable({ network: 'mesh', crowd, ownKey, verify, isNeighbour: isConnected })
  for (let i = 0; i < PEERS; i++) expect(table.addAdvert(Uint8Array.of(i), 0, 0)).toBe('new')
  const dialled: string[] = []
  const keeper = createKeeper({
    peer: {
      self: { peerId: 'self', addrs: () => [] },
      isConnected,
      async connect({ peerId }) {
        dialled.push(peerId)
        connected.add(peerId)
      },
      ping: async () => 1,
    },
    ...{ clock, timers: clock, random, logger: silentLogger, tickMs: TICK_MS },
    sources: {
      ...{ table, ownKey, isConnected, isDirect: isConnected, rttMs: () => null },
      book: { own: () => undefined, get: () => contact },
    },
    gossip: { neighbours: connected, join() {}, leave() {}, sync: async () => {} },
    feeds: createFeeds(random),
    trips: createRoundTrips(),
    own: { tick: async () => {} },
    onChange: () => {},
    mesh: true,
    mayMeet: () => true,
  })
  keeper.start()
  await clock.runUntil(20 * TICK_MS)
  keeper.stop()
  return dialled
}

describe('in a crowd a node connects', () => {
  it('to the nearest, until a few of its neighbours are', async () => {
    expect(await meshOf(meshMost - NEAR - 1, PEERS / 2)).toEqual([0, 1, 2, 3].map(peerIdOf))
  })

  it(`to nobody once it has ${meshMost} neighbours, however far they are`, async () => {
    expect(await meshOf(meshMost - 1, PEERS / 2)).toEqual([peerIdOf(0)])
    expect(await meshOf(meshMost, PEERS / 2)).toEqual([])
  })
})

describe('outside a crowd a node connects', () => {
  it(`to anybody, until it has ${meshPeers} neighbours`, async () => {
    expect(await meshOf(meshPeers - 2, PEERS)).toHaveLength(2)
    expect(await meshOf(meshPeers, PEERS)).toEqual([])
  })
})
