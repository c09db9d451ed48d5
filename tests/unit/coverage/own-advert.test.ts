import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/logger.ts'
import type { Serving } from '../../../src/coverage/advert.ts'
import { createAdvertTable } from '../../../src/coverage/advert-table.ts'
import { createOwnAdvert } from '../../../src/coverage/own-advert.ts'
import { createSequenceCounter } from '../../../src/p2p/sequence.ts'
import { createTestNode, network, serving } from './advert-helpers.ts'

const MINUTE = 60_000

/** An own advert with a clock that the test turns, and everything it says. */
async function setUp() {
  const node = createTestNode()
  const { peerId } = node.advert().advert
  const said: string[] = []
  const time = { ms: 0 }
  const neighbours: { nodeId: string; rttMs: number }[] = []
  const table = createAdvertTable({ network })
  const clock = { nowMs: () => 1_800_000_000_000 + time.ms, monotonicMs: () => time.ms }
  const own = createOwnAdvert(
    { network, version: '1' },
    {
      identity: { addressKey: node.addressKey, peerId, sign: node.sign },
      table,
      sequence: await createSequenceCounter(undefined),
      neighbours: () => neighbours,
      spread: (_key, change) => void said.push(change),
      onChange: () => {},
      clock,
      logger: silentLogger,
    },
  )
  const publish = (change: Partial<Serving> = {}) =>
    own.publish({ serving: [{ ...serving, ...change }], relay: false, reachability: 'unreachable' })
  const passTo = async (ms: number) => {
    while (time.ms < ms) {
      time.ms = Math.min(ms, time.ms + 5_000)
      await own.tick()
    }
  }
  return { own, table, said, time, neighbours, publish, passTo, key: node.addressKey }
}

describe('own advert', () => {
  it('is issued once, kept alive every minute and renewed every half hour', async () => {
    const { publish, passTo, said, table, key, time } = await setUp()
    await publish()
    await publish()
    expect(said).toEqual(['advert'])
    await passTo(10 * MINUTE)
    expect(said).toEqual(['advert', ...Array(10).fill('heartbeat')])
    expect(table.live(time.ms)).toHaveLength(1)
    expect(table.get(key)?.index).toBe(10)
    await passTo(31 * MINUTE)
    expect(said.filter((change) => change === 'advert')).toHaveLength(2)
    expect(table.get(key)?.index).toBe(1)
  })

  it('says new layers and states at once, and new figures at most every ten seconds', async () => {
    const { publish, passTo, said, table, key } = await setUp()
    await publish()
    await publish({ state: 'draining' })
    expect(said).toEqual(['advert', 'advert'])
    await publish({ state: 'draining', freeKvTokens: 1_000 })
    expect(said).toHaveLength(2)
    await passTo(5_000)
    expect(said).toHaveLength(2)
    await passTo(10_000)
    expect(said).toHaveLength(3)
    const told = table.get(key)?.advert.serving[0]?.freeKvTokens ?? 0
    expect(told).toBeLessThanOrEqual(1_000)
    expect(told).toBeGreaterThan(800)
  })

  it('does not talk about figures that tremble', async () => {
    const { publish, passTo, said, neighbours } = await setUp()
    await publish({ decodeMs: 1 })
    await passTo(20_000)
    await publish({ decodeMs: 1.04 })
    await passTo(30_000)
    expect(said).toEqual(['advert'])
    neighbours.push({ nodeId: '0011223344556677', rttMs: 3 })
    await passTo(40_000)
    expect(said).toEqual(['advert', 'advert'])
    neighbours[0] = { nodeId: '0011223344556677', rttMs: 40 }
    await passTo(90_000)
    expect(said).toEqual(['advert', 'advert'])
    await passTo(100_000)
    expect(said.filter((change) => change === 'advert')).toHaveLength(3)
  })

  it('ends with a tombstone, after which nothing comes', async () => {
    const { own, publish, passTo, said, table, time } = await setUp()
    await publish()
    await own.end()
    await own.end()
    expect(said).toEqual(['advert', 'tombstone'])
    expect(table.live(time.ms)).toEqual([])
    await publish({ state: 'joining' })
    await passTo(5 * MINUTE)
    expect(said).toHaveLength(2)
  })

  it('needs no good-bye when it has said nothing', async () => {
    const { own, said } = await setUp()
    await own.end()
    expect(said).toEqual([])
  })
})
