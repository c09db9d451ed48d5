import { describe, expect, it } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import { createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { createTestNode, network } from './advert-helpers.ts'

const MINUTE = 60_000
const liveKeys = (table: ReturnType<typeof createAdvertTable>, nowMs: number) =>
  table.live(nowMs).map((entry) => entry.advert.addressKey)

describe('advert table', () => {
  it('keeps the newest advert of each peer', () => {
    const table = createAdvertTable({ network })
    const [a, b] = [createTestNode(), createTestNode()]
    const first = a.advert({ sequence: 10 })
    expect(table.addAdvert(first.bytes, 0, 0)).toBe('new')
    expect(table.addAdvert(first.bytes, 0, 1)).toBe('known')
    const second = a.advert({ sequence: 11, relay: true })
    expect(table.addAdvert(second.bytes, 0, 2)).toBe('new')
    expect(table.addAdvert(first.bytes, 0, 3)).toBe('old')
    expect(table.addAdvert(a.advert({ sequence: 11 }).bytes, 0, 3)).toBe('old')
    expect(table.addAdvert(b.advert().bytes, 0, 4)).toBe('new')
    expect(table.get(a.addressKey)?.advert.relay).toBe(true)
    expect(liveKeys(table, 5)).toHaveLength(2)
    expect(() => table.addAdvert(a.advert({ sequence: 12 }, 'other').bytes, 0, 5)).toThrow(/in this network/)
  })

  it('adds ages up, and drops a peer that was silent for 115 s', () => {
    const table = createAdvertTable({ network })
    const a = createTestNode().advert()
    expect(table.addAdvert(a.bytes, coverageLimits.maxAgeMs, 0)).toBe('old')
    expect(table.addAdvert(a.bytes, 50_000, 1_000)).toBe('new')
    const entry = table.all()[0]
    if (entry === undefined) throw new Error('nothing there')
    expect(table.ageMs(entry, 31_000)).toBe(80_000)
    expect(table.live(65_999)).toHaveLength(1)
    expect(table.expire(65_999)).toBe(false)
    expect(table.live(66_000)).toHaveLength(0)
    expect(table.expire(66_000)).toBe(true)
    expect(table.expire(71_001)).toBe(false)
  })

  it('makes nobody younger by repeating old signs of life', () => {
    const table = createAdvertTable({ network })
    const a = createTestNode().advert()
    table.addAdvert(a.bytes, 0, 0)
    expect(table.addHeartbeat(a.beat(2), 0, MINUTE)).toBe('new')
    expect(table.addHeartbeat(a.beat(2), 0, 2 * MINUTE)).toBe('known')
    expect(table.addHeartbeat(a.beat(1), 0, 2 * MINUTE)).toBe('known')
    expect(table.addAdvert(a.bytes, 0, 2 * MINUTE)).toBe('known')
    expect(table.live(3 * MINUTE)).toHaveLength(0)
    expect(table.addAdvert(a.bytes, 0, 4 * MINUTE)).toBe('known')
    expect(table.live(4 * MINUTE)).toHaveLength(0)
    expect(table.addHeartbeat(a.beat(3), 0, 5 * MINUTE)).toBe('new')
    expect(table.live(5 * MINUTE)).toHaveLength(1)
  })

  it('refuses forged heartbeats and asks for adverts it lacks', () => {
    const table = createAdvertTable({ network })
    const [a, b] = [createTestNode().advert(), createTestNode().advert()]
    table.addAdvert(a.bytes, 0, 0)
    const forged = a.beat(1).slice()
    forged[20] = (forged[20] ?? 0) ^ 1
    expect(() => table.addHeartbeat(forged, 0, 1)).toThrow(/does not belong/)
    expect(table.addHeartbeat(b.beat(1), 0, 1)).toBe('unknown')
    expect(table.addHeartbeat(a.beat(1), coverageLimits.maxAgeMs, 1)).toBe('old')
  })

  it('lets a peer go at its tombstone and never takes it back with older words', () => {
    const table = createAdvertTable({ network })
    const a = createTestNode()
    const first = a.advert({ sequence: 10 })
    expect(table.addTombstone(a.tombstone(11), 0)).toBe('known')
    table.addAdvert(first.bytes, 0, 0)
    expect(table.addTombstone(a.tombstone(10), 1)).toBe('old')
    expect(table.addTombstone(a.tombstone(12), 2)).toBe('new')
    expect(table.addTombstone(a.tombstone(12), 3)).toBe('known')
    expect(table.live(3)).toHaveLength(0)
    expect(table.addHeartbeat(first.beat(1), 0, 4)).toBe('known')
    expect(table.addAdvert(a.advert({ sequence: 11 }).bytes, 0, 4)).toBe('old')
    expect(table.met(a.addressKey, 4)).toBe(false)
    expect(table.live(5)).toHaveLength(0)
    expect(table.addAdvert(a.advert({ sequence: 13 }).bytes, 0, 6)).toBe('new')
    expect(table.live(6)).toHaveLength(1)
    const forged = a.tombstone(14).slice()
    forged[50] = (forged[50] ?? 0) ^ 1
    expect(() => table.addTombstone(forged, 7)).toThrow(/not signed/)
  })

  it('doubts a peer that does not answer until it gives a sign of life or is met', () => {
    const table = createAdvertTable({ network })
    const a = createTestNode()
    const { bytes, beat } = a.advert()
    table.addAdvert(bytes, 0, 0)
    expect(table.doubt(a.addressKey, 10)).toBe(true)
    expect(table.doubt(a.addressKey, 11)).toBe(false)
    expect(table.live(12)).toHaveLength(0)
    table.addHeartbeat(beat(1), 0, 13)
    expect(table.live(13)).toHaveLength(1)
    table.doubt(a.addressKey, 14)
    expect(table.met(a.addressKey, 15)).toBe(true)
    expect(table.live(15)).toHaveLength(1)
  })

  it('remembers for 15 minutes and holds its cap, the silent ones going first', () => {
    const table = createAdvertTable({ network, maxPeers: 2 })
    const nodes = [createTestNode(), createTestNode(), createTestNode()]
    const adverts = nodes.map((node) => node.advert().bytes)
    table.addAdvert(adverts[0] ?? new Uint8Array(), 0, 0)
    table.addAdvert(adverts[1] ?? new Uint8Array(), 0, MINUTE)
    expect(table.addAdvert(adverts[2] ?? new Uint8Array(), 0, MINUTE)).toBe('full')
    expect(table.addAdvert(adverts[2] ?? new Uint8Array(), 0, 2 * MINUTE)).toBe('new')
    expect(table.all()).toHaveLength(2)
    table.expire(16 * MINUTE)
    expect(table.all().map((entry) => entry.advert.addressKey)).toEqual([nodes[2]?.addressKey])
    table.expire(17 * MINUTE)
    expect(table.all()).toHaveLength(0)
  })
})
