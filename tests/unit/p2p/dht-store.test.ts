import { MemoryDatastore } from 'datastore-core'
import { Key } from 'interface-datastore'
import { describe, expect, it } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { DhtStore } from '../../../src/p2p/dht-store.ts'

const record = (i: number) => new Key(`/dht-lan/record/r${i}`)
const provider = (i: number) => new Key(`/dht-lan/provider/c${i}/p`)

function newStore(): { store: DhtStore; time: { ms: number } } {
  const time = { ms: 0 }
  return { store: new DhtStore(() => time.ms), time }
}

describe('what a node keeps for the DHT', () => {
  it('is at most so many records; the oldest goes', () => {
    const { store } = newStore()
    for (let i = 0; i <= p2pLimits.dhtRecords; i++) store.put(record(i), new Uint8Array(10))
    expect(store.nRecords).toBe(p2pLimits.dhtRecords)
    expect(store.has(record(0))).toBe(false)
    expect(store.has(record(p2pLimits.dhtRecords))).toBe(true)
  })

  it('is at most so many bytes of records', () => {
    const { store } = newStore()
    const large = p2pLimits.dhtRecordBytes / 4
    for (let i = 0; i < 9; i++) store.put(record(i), new Uint8Array(large))
    expect(store.recordBytes).toBe(p2pLimits.dhtRecordBytes)
    store.put(record(8), new Uint8Array(1))
    store.delete(record(7))
    expect([store.nRecords, store.recordBytes]).toEqual([3, 2 * large + 1])
  })

  it('ends with its age', () => {
    const { store, time } = newStore()
    store.put(record(1), new Uint8Array(10))
    time.ms = p2pLimits.dhtRecordMs - 1
    store.put(record(2), new Uint8Array(10))
    expect(store.nRecords).toBe(2)
    time.ms++
    store.put(record(3), new Uint8Array(10))
    expect(store.has(record(1))).toBe(false)
    expect(store.recordBytes).toBe(20)
  })

  it('is there again after a restart, within the same caps, and never what was dropped', async () => {
    const disk = new MemoryDatastore()
    disk.put(new Key('/peers/p'), new Uint8Array(3))
    const { store: first } = newStore()
    await first.keepOn(disk, '/dht-lan')
    first.put(record(1), Uint8Array.of(1))
    first.put(record(2), Uint8Array.of(2))
    first.put(provider(1), Uint8Array.of(3))
    first.delete(record(1))
    await first.flushed()
    const { store: second } = newStore()
    await second.keepOn(disk, '/dht-lan')
    expect([second.nRecords, second.nProviders, second.has(record(1))]).toEqual([1, 1, false])
    expect([...(await second.get(record(2)))]).toEqual([2])
    for (let i = 10; i < 10 + p2pLimits.dhtRecords; i++) second.put(record(i), new Uint8Array(1))
    await second.flushed()
    let kept = 0
    for await (const _key of disk.queryKeys({ prefix: '/dht-lan/record' })) kept++
    expect(kept).toBe(p2pLimits.dhtRecords)
  })

  it('is at most so many providers', () => {
    const { store } = newStore()
    for (let i = 0; i <= p2pLimits.dhtProviders; i++) store.put(provider(i), new Uint8Array(1))
    expect(store.nProviders).toBe(p2pLimits.dhtProviders)
    expect(store.has(provider(0))).toBe(false)
    expect(store.has(provider(1))).toBe(true)
  })
})
