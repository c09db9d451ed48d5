import { describe, expect, it } from 'vitest'
import type { Advert } from '../../../src/coverage/advert.ts'
import { createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { EVERYBODY, estimatePeers, isWithin, positionOf, reachOf } from '../../../src/coverage/crowd.ts'
import { createFeeds } from '../../../src/coverage/feeds.ts'
import { serving } from './advert-helpers.ts'
import { createRandom } from './swarm-simulation.ts'

const random = createRandom(3)
let made = 0

/** Not signed: for what looks at the content only. */
function advertOf(start: number, end: number): Advert {
  const addressKey = Uint8Array.from({ length: 32 }, () => Math.floor(256 * random()))
  const span = { start, end }
  const rest = {
    relay: true,
    reachability: 'public' as const,
    neighbours: [],
    version: '1',
    chainEnd: new Uint8Array(16),
  }
  return { addressKey, peerId: `peer ${made++}`, sequence: made, serving: [{ ...serving, span }], ...rest }
}

describe('in a crowd', () => {
  it('a node keeps the 16 nearest of each group of layers, and all of a group that has fewer', () => {
    const common = Array.from({ length: 500 }, () => advertOf(0, 4))
    const rare = Array.from({ length: 9 }, () => advertOf(8, 12))
    const reach = reachOf([...common, ...rare], 0x80000000)
    const kept = [...common, ...rare].filter((advert) => isWithin(advert, reach))
    expect(kept).toHaveLength(16 + 9)
    const far = (advert: Advert) => (positionOf(advert.addressKey) ^ 0x80000000) >>> 0
    const nearest = [...common].sort((a, b) => far(a) - far(b)).slice(0, 16)
    expect(new Set(kept)).toEqual(new Set([...nearest, ...rare]))
  })

  it('two nodes that are near each other keep nearly the same ones, and all nodes together everybody', () => {
    const all = Array.from({ length: 500 }, () => advertOf(0, 4))
    const keptAt = (position: number) => {
      const reach = reachOf(all, position)
      return all.filter((advert) => isWithin(advert, reach))
    }
    const near = keptAt(0x12340001)
    const shared = keptAt(0x12340000).filter((advert) => near.includes(advert))
    expect(shared.length).toBeGreaterThanOrEqual(15)
    const somewhere = new Set(Array.from({ length: 150 }, () => keptAt(random() * 2 ** 32)).flat())
    expect(somewhere.size).toBeGreaterThan(470)
  })

  it('judges how many there are by those it keeps', () => {
    const all = Array.from({ length: 5_000 }, (_, i) => advertOf(4 * (i % 8), 4 * (i % 8) + 4))
    const reach = reachOf(all, 0x55555555)
    const kept = all.filter((advert) => isWithin(advert, reach))
    expect(kept.length).toBe(8 * 16)
    expect(estimatePeers(kept, reach)).toBeGreaterThan(3_500)
    expect(estimatePeers(kept, reach)).toBeLessThan(7_000)
    expect(estimatePeers(kept, EVERYBODY)).toBeCloseTo(kept.length)
  })

  it('a table thins out above its crowd, refuses who is too far once, and has room again when many have gone', () => {
    const byId = new Map<string, Advert>()
    const verify = (bytes: Uint8Array) => {
      const advert = byId.get(Buffer.from(bytes).toString('hex'))
      if (advert === undefined) throw new Error('unknown')
      return advert
    }
    let sequence = 0
    const say = (advert: Advert) => {
      const bytes = new Uint8Array(8)
      new DataView(bytes.buffer).setUint32(0, ++sequence)
      byId.set(Buffer.from(bytes).toString('hex'), advert)
      return bytes
    }
    const ownKey = new Uint8Array(32).fill(0x77)
    const table = createAdvertTable({
      network: 'test',
      crowd: 100,
      maxPeers: 400,
      ownKey,
      verify,
      isNeighbour: (id) => id === 'kept',
    })
    for (let i = 0; i < 100; i++) expect(table.addAdvert(say(advertOf(0, 4)), 0, 0)).toBe('new')
    table.expire(1)
    expect(table.reach).toBe(EVERYBODY)
    for (let i = 0; i < 200; i++) table.addAdvert(say(advertOf(0, 4)), 0, 1)
    const farthest = { ...advertOf(0, 4), addressKey: new Uint8Array(32).fill(0x88) }
    table.addAdvert(say({ ...farthest, peerId: 'kept' }), 0, 1)
    table.expire(2)
    expect(table.size).toBe(16 + 1)
    const other = say({ ...farthest, addressKey: new Uint8Array(32).fill(0x89) })
    expect(table.addAdvert(other, 0, 2)).toBe('full')
    byId.clear()
    // Not even looked at again.
    expect(table.addAdvert(other, 0, 3)).toBe('full')
    for (const { advert } of table.all()) table.doubt(advert.addressKey, 4)
    table.expire(5)
    expect(table.reach).toBe(EVERYBODY)
  })

  it('looks no farther and no less far while a few come and go, and a little farther once there are too few', () => {
    const all = Array.from({ length: 500 }, () => advertOf(0, 4))
    const far = (advert: Advert) => (positionOf(advert.addressKey) ^ 0x80000000) >>> 0
    const sorted = [...all].sort((a, b) => far(a) - far(b))
    const before = reachOf(all, 0x80000000)
    const radiusWith = (advertsKept: readonly Advert[]) => [...reachOf(advertsKept, 0x80000000, before).radii.values()]
    const [radius = 0] = before.radii.values()
    const comers = Array.from({ length: 4 }, () => ({
      ...advertOf(0, 4),
      addressKey: sorted[0]?.addressKey ?? new Uint8Array(32),
    }))
    expect(radiusWith(sorted.slice(0, 16))).toEqual([radius])
    expect(radiusWith([...sorted.slice(0, 16), ...comers])).toEqual([radius])
    // One more, and the farthest are let go; one too few, and it looks around.
    expect(radiusWith([...sorted.slice(0, 16), ...comers, ...comers.slice(0, 1)])[0]).toBeLessThan(radius)
    expect(radiusWith(sorted.slice(0, 15))).toEqual([Math.ceil(radius * 1.05)])
  })
})

describe('feeders', () => {
  const peers = Array.from({ length: 20 }, (_, i) => `peer ${i}`)
  const wanted = (feeds: ReturnType<typeof createFeeds>) => peers.filter((peerId) => feeds.wants(peerId))

  it('are six in a small swarm and two in a large one, and others when they go', () => {
    const feeds = createFeeds(random)
    for (const peerId of peers) feeds.join(peerId)
    expect(wanted(feeds)).toHaveLength(6)
    feeds.choose(1_000)
    expect(wanted(feeds)).toHaveLength(2)
    const [first] = wanted(feeds)
    feeds.leave(first ?? '')
    expect(wanted(feeds)).toHaveLength(2)
    expect(wanted(feeds)).not.toContain(first)
    const idle = peers.find((peerId) => !feeds.wants(peerId) && peerId !== first) ?? ''
    feeds.prefer(idle)
    expect(wanted(feeds)).toHaveLength(2)
    expect(feeds.wants(idle)).toBe(true)
  })

  it('a neighbour is fed until it says that it does not wish it', () => {
    const feeds = createFeeds(random)
    feeds.join('a')
    expect(feeds.isFed('a')).toBe(true)
    feeds.noteWish('a', false)
    expect(feeds.isFed('a')).toBe(false)
    feeds.noteWish('a', true)
    expect(feeds.isFed('a')).toBe(true)
    // Of strangers nothing is kept.
    feeds.noteWish('b', false)
    expect(feeds.isFed('b')).toBe(true)
  })
})
