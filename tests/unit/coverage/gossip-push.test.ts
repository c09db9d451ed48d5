/** To whom and how news is sent: whole to some in a small swarm, offered to fewer in a large one. */
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { coverageLimits } from '../../../src/base/limits.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import type { Advert } from '../../../src/coverage/advert.ts'
import { createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { EVERYBODY } from '../../../src/coverage/crowd.ts'
import { createFeeds } from '../../../src/coverage/feeds.ts'
import { createGossip } from '../../../src/coverage/gossip.ts'
import { decodeRequest, encodeAnswer } from '../../../src/coverage/gossip-messages.ts'
import { networkTag } from '../../../src/p2p/network.ts'
import { serving } from './advert-helpers.ts'
import { createRandom } from './swarm-simulation.ts'

const NEIGHBOURS = 20

/** A node that knows `known` peers, is told of one more, and has `NEIGHBOURS` others to pass that on to. */
async function passOn(known: number): Promise<{ items: number; lines: number }[]> {
  const random = createRandom(11)
  const keyOf = (i: number) => Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? i : at === 1 ? i >> 8 : 7))
  const advertOf = (bytes: Uint8Array): Advert => ({
    addressKey: keyOf(bytes[0] ?? 0),
    peerId: `peer ${bytes[0]}`,
    sequence: 1,
    serving: [serving],
    relay: true,
    reachability: 'public',
    neighbours: [],
    version: '1',
    chainEnd: new Uint8Array(16),
  })
  const ownKey = keyOf(255)
  const table = createAdvertTable({ network: 'push', ownKey, verify: advertOf, isNeighbour: () => true })
  for (let i = 0; i < known; i++) expect(table.addAdvert(Uint8Array.of(i), 0, systemClock.monotonicMs())).toBe('new')
  const told: { items: number; lines: number }[] = []
  const gossip = await createGossip('push', {
    node: {
      handle: async () => {},
      request: async (_target, _protocol, body) => {
        const request = decodeRequest(body, networkTag('push'))
        if (request.op !== 'news') throw new Error('nobody was asked to compare')
        told.push({ items: request.items.length, lines: request.lines.length })
        return encodeAnswer({ wish: false, reach: EVERYBODY, items: [], wants: [], lacks: [] })
      },
    },
    table,
    feeds: createFeeds(random),
    book: { own: () => undefined, get: () => undefined, accept: () => 'same' },
    ownKey,
    clock: systemClock,
    timers: { after: () => () => {} },
    random,
    logger: silentLogger,
    onChange: () => {},
  })
  for (let i = 0; i < NEIGHBOURS; i++) gossip.join(`neighbour ${i}`)
  gossip.spread(keyOf(0), 'advert')
  await gossip.flush()
  gossip.stop()
  return told
}

describe('what a node passes on', () => {
  it(`goes whole to ${coverageLimits.pushedTo} while it knows ${coverageLimits.pushedWhole} peers`, async () => {
    expect(await passOn(coverageLimits.pushedWhole)).toEqual(
      Array.from({ length: coverageLimits.pushedTo }, () => ({ items: 1, lines: 0 })),
    )
  })

  it(`is offered to ${coverageLimits.offeredTo} once it knows one more`, async () => {
    expect(await passOn(coverageLimits.pushedWhole + 1)).toEqual(
      Array.from({ length: coverageLimits.offeredTo }, () => ({ items: 0, lines: 1 })),
    )
  })
})
