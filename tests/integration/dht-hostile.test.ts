import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LevelDatastore } from 'datastore-level'
import { afterEach, describe, expect, it } from 'vitest'
import { concatBytes, toHex } from '../../src/base/bytes.ts'
import { p2pLimits } from '../../src/base/limits.ts'
import { RECORDS_PROTOCOL } from '../../src/p2p/contact-book.ts'
import { type Author, newAuthor, recordOf, startHostile, startVictim } from './hostile-dht.ts'
import { createCleanup, eventually, startPeer, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(115_000)
const HOUR = 3_600_000

/** Records of an address whose record number 1,000 is known. */
const attacks: [string, (author: Author) => [key: string, record: Uint8Array]][] = [
  ['an older record', (author) => [author.key, recordOf(author, { sequence: 999 })]],
  ['another record with the same number', (author) => [author.key, recordOf(author, { sequence: 1_000, flags: 1 })]],
  ['one that has expired', (author) => [author.key, recordOf(author, { issuedMs: 1, expiresMs: HOUR })]],
  [
    'one from the future',
    (author) => {
      const issuedMs = Date.now() + HOUR
      return [author.key, recordOf(author, { issuedMs, expiresMs: issuedMs + HOUR })]
    },
  ],
  ['one that lives too long', (author) => [author.key, recordOf(author, { expiresMs: Date.now() + 13 * HOUR })]],
  [
    'a forged one',
    (author) => {
      const bytes = recordOf(author)
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      return [author.key, bytes]
    },
  ],
  ['one that is too long', (author) => [author.key, concatBytes(recordOf(author), new Uint8Array(1_536))]],
  ['one under the key of another', (author) => [newAuthor().key, recordOf(author)]],
  ['one under a key that is no address', (author) => [`${author.key}/x`, recordOf(author)]],
  ['another namespace', (author) => [author.key.replace('/llm/', '/other/'), recordOf(author)]],
]

describe('the DHT takes', () => {
  it('a valid record, and four a minute from one sender', async () => {
    const victim = await startVictim(cleanup)
    const hostile = await startHostile(cleanup, victim, signal)
    const taken: boolean[] = []
    for (let i = 0; i < 6; i++) {
      const author = newAuthor()
      taken.push(await hostile.put(author.key, recordOf(author)))
      expect(victim.book.get(author.addressKey) !== undefined).toBe(taken[i])
    }
    expect(taken).toEqual([true, true, true, true, false, false])
    expect(victim.node.dht?.kept().records).toBe(p2pLimits.dhtQuotas.put.burst)
    // Others are not kept from it.
    const other = newAuthor()
    expect(await (await startHostile(cleanup, victim, signal)).put(other.key, recordOf(other))).toBe(true)
  })
})

describe('the DHT refuses', () => {
  it.each(attacks)('%s', async (_name, attack) => {
    const victim = await startVictim(cleanup)
    const author = newAuthor()
    victim.book.accept(recordOf(author, { sequence: 1_000 }))
    const before = victim.book.get(author.addressKey)?.bytes
    const hostile = await startHostile(cleanup, victim, signal)
    expect(await hostile.put(...attack(author))).toBe(false)
    expect(victim.book.get(author.addressKey)?.bytes).toEqual(before)
    expect(victim.node.dht?.kept()).toEqual({ records: 0, recordBytes: 0, providers: 0 })
    // The same sender's next valid record is taken: what was refused was the record, not the sender.
    expect(await hostile.put(author.key, recordOf(author, { sequence: 1_001 }))).toBe(true)
    expect(victim.node.dht?.kept().records).toBe(1)
  })
})

describe('two truths with one number', () => {
  it('are both kept, as is the mark of their address, across a restart', async () => {
    const [identityFolder, folder] = [await temporaryFolder(cleanup), await temporaryFolder(cleanup)]
    const victim = await startVictim(cleanup, { identityFolder, folder })
    const author = newAuthor()
    const [first, second, third] = [0, 1, 2].map((flags) => recordOf(author, { sequence: 1_000, flags }))
    if (first === undefined || second === undefined || third === undefined) throw new Error('three')
    const hostile = await startHostile(cleanup, victim, signal)
    const taken: boolean[] = []
    for (const record of [first, second, third]) taken.push(await hostile.put(author.key, record))
    expect(taken).toEqual([true, false, false])
    // Who reads it goes on reading the first one.
    expect(victim.book.get(author.addressKey)?.bytes).toEqual(first)
    const proof = new Map([[toHex(author.addressKey), { sequence: 1_000, first, second, atMs: expect.any(Number) }]])
    expect(victim.book.contradictions).toEqual(proof)
    await victim.book.stop()
    await victim.node.stop()
    expect((await startVictim(cleanup, { identityFolder, folder })).book.contradictions).toEqual(proof)
  })
})

describe('a peer that is asked for a record', () => {
  // Keys and namespaces are the asker's own.
  const answers = attacks.filter(([name]) => !/under|namespace/.test(name))

  const VERDICTS = new Map([
    ['an older record', 'old'],
    ['another record with the same number', 'conflict'],
    ['one that is too long', 'BAD_FRAME'],
  ])

  it.each(answers)('cannot answer with %s', async (name, attack) => {
    const victim = await startVictim(cleanup)
    const author = newAuthor()
    let answer = recordOf(author, { sequence: 1_000 })
    const hostile = await startPeer(cleanup, { bootstrap: victim.bootstrap }, (node) =>
      node.handle(RECORDS_PROTOCOL, { maxRequestBytes: 32 }, () => answer),
    )
    await eventually(() => victim.node.isConnected(hostile.node.self.peerId), 3_000)
    const ask = async () => {
      const options = { signal, maxResponseBytes: p2pLimits.contactRecordBytes }
      return victim.book.accept(await victim.node.request(hostile.target, RECORDS_PROTOCOL, author.addressKey, options))
    }
    expect(await ask()).toBe('new')
    const before = victim.book.get(author.addressKey)?.bytes
    answer = attack(author)[1]
    expect(await ask().catch(({ code }) => code)).toBe(VERDICTS.get(name) ?? 'BAD_RECORD')
    expect(victim.book.get(author.addressKey)?.bytes).toEqual(before)
  })

  it('cannot answer with the record of another', async () => {
    const victim = await startVictim(cleanup)
    const [wanted, other] = [newAuthor(), newAuthor()]
    const hostile = await startPeer(cleanup, { bootstrap: victim.bootstrap }, (node) =>
      node.handle(RECORDS_PROTOCOL, { maxRequestBytes: 32 }, () => recordOf(other)),
    )
    await eventually(() => victim.node.isConnected(hostile.node.self.peerId), 3_000)
    const found = victim.book.find(wanted.addressKey, { signal, ask: [hostile.node.self.peerId] })
    await expect(found).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })
})

describe('a node of the DHT that is asked for a record', () => {
  it('is believed when it is good, whoever has it, and not when it is not', async () => {
    const victim = await startVictim(cleanup)
    const hostile = await startHostile(cleanup, victim, signal)
    // It has no message to spare any more, so that the victim learns nothing but by asking.
    const spent = Array.from({ length: p2pLimits.dhtQuotas.put.burst }, newAuthor)
    for (const author of spent) expect(await hostile.put(author.key, recordOf(author))).toBe(true)
    const good = newAuthor()
    expect(await hostile.put(good.key, recordOf(good))).toBe(false)
    expect(victim.book.get(good.addressKey)).toBeUndefined()
    const find = (author: Author) => victim.book.find(author.addressKey, { signal, ask: [] })
    expect((await find(good)).record.addressKey).toEqual(good.addressKey)
    const bad = attacks.filter(([name]) => /expired|future|too long|forged/.test(name))
    expect(bad).toHaveLength(5)
    for (const [, attack] of bad) {
      const author = newAuthor()
      await hostile.put(...attack(author))
      await expect(find(author)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    }
    const [wanted, other] = [newAuthor(), newAuthor()]
    await hostile.put(wanted.key, recordOf(other))
    await expect(find(wanted)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(victim.book.get(other.addressKey)).toBeUndefined()
  })
})

describe('a flood of records', () => {
  it('of one sender gets four of them in', async () => {
    const victim = await startVictim(cleanup)
    const hostile = await startHostile(cleanup, victim, signal)
    const author = newAuthor()
    expect(await hostile.put(author.key, recordOf(author))).toBe(true)
    const flood = Array.from({ length: 60 }, newAuthor)
    const taken = await Promise.all(flood.map((of) => hostile.put(of.key, recordOf(of)).catch(() => false)))
    expect(taken.filter(Boolean)).toHaveLength(p2pLimits.dhtQuotas.put.burst - 1)
    expect(victim.node.dht?.kept().records).toBe(p2pLimits.dhtQuotas.put.burst)
    expect(flood.filter((of) => victim.book.get(of.addressKey) !== undefined)).toHaveLength(3)
  })

  const RECORDS = { dhtRecords: 6, dhtRecordBytes: p2pLimits.dhtRecordBytes }
  const BYTES = { dhtRecords: p2pLimits.dhtRecords, dhtRecordBytes: 2_000 }
  it.each([
    ['number', RECORDS],
    ['bytes', BYTES],
  ])('of many identities fills neither memory nor disk: their %s', async (_name, limits) => {
    const [identityFolder, folder] = [await temporaryFolder(cleanup), await temporaryFolder(cleanup)]
    // As a bootstrap node, which keeps what others have put there on its disk.
    const options = { identityFolder, folder, vouched: true, limits: { ...p2pLimits, ...limits } }
    const victim = await startVictim(cleanup, options)
    let nTaken = 0
    for (let i = 0; i < 4; i++) {
      const hostile = await startHostile(cleanup, victim, signal)
      for (let j = 0; j < 6; j++) {
        const author = newAuthor()
        if (await hostile.put(author.key, recordOf(author))) nTaken++
        const kept = victim.node.dht?.kept()
        expect(kept?.records).toBeLessThanOrEqual(limits.dhtRecords)
        expect(kept?.recordBytes).toBeLessThanOrEqual(limits.dhtRecordBytes)
      }
    }
    expect(nTaken).toBe(4 * p2pLimits.dhtQuotas.put.burst)
    const kept = victim.node.dht?.kept()
    if (limits === RECORDS) expect(kept?.records).toBe(6)
    expect(kept?.records).toBeGreaterThan(2)
    await victim.book.stop()
    await victim.node.stop()
    expect(await onDisk(folder)).toEqual({ records: kept?.records, recordBytes: kept?.recordBytes })
    const seen = JSON.parse(await readFile(join(folder, 'seen-records.json'), 'utf8'))
    expect(seen.entries).toHaveLength(nTaken)
    expect(await folderBytes(folder)).toBeLessThan(64 * 1_024)
  })
})

/** What lies in a home for the DHT, read by another program than the node. */
async function onDisk(folder: string): Promise<{ records: number; recordBytes: number }> {
  const store = new LevelDatastore(join(folder, 'peers'))
  await store.open()
  try {
    let [records, recordBytes] = [0, 0]
    for await (const { value } of store.query({ prefix: '/dht-lan/record' })) {
      records++
      recordBytes += value.length
    }
    return { records, recordBytes }
  } finally {
    await store.close()
  }
}

async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true })
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}
