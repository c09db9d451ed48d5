import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { toHex } from '../../../src/base/bytes.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { type ContactBook, createContactBook } from '../../../src/p2p/contact-book.ts'
import { encodeContactRecord } from '../../../src/p2p/contact-record.ts'
import type { RecordCheck } from '../../../src/p2p/dht-service.ts'
import { type Identity, loadOrCreateIdentity } from '../../../src/p2p/identity.ts'
import type { PeerNode } from '../../../src/p2p/peer-node.ts'

const HOUR = 3_600_000
const signal = AbortSignal.timeout(30_000)
const time = { ms: 1_800_000_000_000 }
const clock = { nowMs: () => time.ms, monotonicMs: () => time.ms }
let folder = ''
const books: ContactBook[] = []
beforeEach(async () => {
  time.ms = 1_800_000_000_000
  folder = await mkdtemp(join(tmpdir(), 'llm-book-'))
})
afterEach(async () => {
  for (const book of books.splice(0)) await book.stop()
  await rm(folder, { recursive: true, force: true })
})

interface Place {
  readonly identity: Identity
  readonly book: ContactBook
  /** Answers of other nodes, by PeerId. */
  readonly answers: Map<string, Uint8Array>
  /** Records in the DHT, by hex key; and who was asked, in order. */
  readonly found: Map<string, Uint8Array>
  readonly asked: string[]
  addrs: string[]
  /** Who has signed two truths, as it was told, in hex. */
  readonly contradicted: string[]
  moved(): void
}

/** A book of a node whose network is a table of answers. */
async function open(name: string): Promise<Place> {
  const identity = await loadOrCreateIdentity(join(folder, name, 'keys'), { nowMs: time.ms })
  const answers = new Map<string, Uint8Array>()
  const found = new Map<string, Uint8Array>()
  const asked: string[] = []
  let check: RecordCheck = () => {}
  const place = { addrs: ['/ip4/10.0.0.1/tcp/1'], contradicted: [] as string[], moved: () => {} }
  const onContradiction = (key: Uint8Array) => void place.contradicted.push(toHex(key))
  const node: Pick<PeerNode, 'self' | 'handle' | 'request' | 'connections' | 'onAddrs' | 'dht'> = {
    self: { peerId: identity.peerId, addrs: () => place.addrs },
    handle: async () => {},
    connections: () => [],
    onAddrs: (handler) => {
      place.moved = handler
    },
    request: async (target) => {
      asked.push(target.peerId)
      const answer = answers.get(target.peerId)
      if (answer === undefined) throw new Error('unreachable')
      return answer
    },
    dht: {
      onRecord: (given) => {
        check = given
      },
      async find(addressKey) {
        const bytes = found.get(toHex(addressKey))
        if (bytes === undefined) return
        asked.push('dht')
        check(addressKey, bytes)
      },
      put: async () => 1,
      provide: async () => 1,
      leave: async () => {},
      members: async () => [],
      kept: () => ({ records: 0, recordBytes: 0, providers: 0 }),
    },
  }
  const book = await createContactBook(
    { network: 'test', folder: join(folder, name) },
    { identity, node, clock, logger: silentLogger, onContradiction },
  )
  books.push(book)
  return Object.assign(place, { identity, book, answers, found, asked })
}

describe('contact book', () => {
  it('issues the own record at start, when addresses change and with a new onion key', async () => {
    const a = await open('a')
    expect(a.book.own()).toBeUndefined()
    await a.book.start()
    await a.book.start()
    const first = a.book.own()
    expect(first?.record).toMatchObject({ addrs: a.addrs, issuedMs: time.ms, expiresMs: time.ms + 3 * HOUR })
    const published = new Promise((resolve) => a.book.onPublished(resolve))
    a.addrs = ['/ip4/10.0.0.2/tcp/1']
    a.moved()
    await published
    const second = a.book.own()
    expect(second?.record.addrs).toEqual(a.addrs)
    expect(second?.record.sequence).toBeGreaterThan(first?.record.sequence ?? 0)
    time.ms += 8 * 24 * HOUR
    const third = await a.book.publish()
    expect(third.record.onionKey).not.toEqual(second?.record.onionKey)
    expect(third.record.onionKey).toEqual(a.identity.onionKeys(time.ms)[0].publicKey)
  })

  it('keeps the newest record of others, also across a restart, until it expires', async () => {
    const a = await open('a')
    const b = await open('b')
    const old = (await a.book.publish()).bytes
    const current = (await a.book.publish()).bytes
    const key = a.identity.addressKey
    expect(b.book.accept(current)).toBe('new')
    expect(b.book.accept(current)).toBe('same')
    expect(b.book.accept(old)).toBe('old')
    expect(b.book.get(key)?.bytes).toEqual(current)
    await b.book.stop()
    const again = await open('b')
    expect(again.book.get(key)).toBeUndefined()
    expect(again.book.accept(old)).toBe('old')
    expect(again.book.accept(current)).toBe('same')
    expect(again.book.get(key)?.bytes).toEqual(current)
    time.ms += 4 * HOUR
    expect(again.book.get(key)).toBeUndefined()
    expect(() => again.book.accept(current)).toThrow(/expired/)
  })

  it('knows two truths also where only the number of the first one is left, and says so once', async () => {
    const [a, b] = [await open('a'), await open('b')]
    const { record, bytes } = await a.book.publish()
    b.book.accept(bytes)
    await b.book.stop()
    const again = await open('b')
    const sign = { network: 'test', sign: a.identity.sign }
    const second = encodeContactRecord({ ...record, addrs: ['/ip4/10.0.0.9/tcp/1'] }, sign)
    const third = encodeContactRecord({ ...record, addrs: [] }, sign)
    expect([again.book.accept(second), again.book.accept(third)]).toEqual(['conflict', 'conflict'])
    const hex = toHex(a.identity.addressKey)
    const proof = { sequence: record.sequence, first: null, second, atMs: time.ms }
    expect(again.book.contradictions).toEqual(new Map([[hex, proof]]))
    expect(again.contradicted).toEqual([hex])
  })

  it('looks for a record where it has it, then at its peers, and in the DHT last', async () => {
    const [a, b] = [await open('a'), await open('b')]
    const { bytes } = await a.book.publish()
    const key = a.identity.addressKey
    b.found.set(toHex(key), bytes)
    b.answers.set('peer', bytes)
    expect((await b.book.find(key, { signal, ask: ['peer'] })).bytes).toEqual(bytes)
    await b.book.find(key, { signal, ask: [] })
    expect(b.asked).toEqual(['peer'])
    const c = await open('c')
    c.found.set(toHex(key), bytes)
    expect((await c.book.find(key, { signal, ask: ['gone'] })).bytes).toEqual(bytes)
    expect(c.asked).toEqual(['gone', 'dht'])
  })

  it('numbers its records on across restarts and clocks set back', async () => {
    const { sequence } = (await (await open('a')).book.publish()).record
    time.ms -= HOUR
    const again = await open('a')
    expect((await again.book.publish()).record.sequence).toBe(sequence + 1)
  })

  it('starts anew when the numbers seen are damaged', async () => {
    const a = await open('a')
    await a.book.stop()
    await writeFile(join(folder, 'a', 'seen-records.json'), '{')
    await expect(open('a')).resolves.toBeDefined()
  })

  it('asks several peers and takes the first good answer', async () => {
    const a = await open('a')
    const b = await open('b')
    const c = await open('c')
    b.answers.set('liar', (await c.book.publish()).bytes)
    b.answers.set('empty', new Uint8Array(0))
    b.answers.set('noise', new Uint8Array(300))
    const key = a.identity.addressKey
    const ask = ['gone', 'liar', 'empty', 'noise']
    await expect(b.book.find(key, { signal, ask })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    await expect(b.book.find(key, { signal, ask: [] })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    await expect(b.book.find(key, { signal: AbortSignal.abort(), ask })).rejects.toMatchObject({ code: 'ABORTED' })
    b.answers.set('honest', (await a.book.publish()).bytes)
    const found = await b.book.find(key, { signal, ask: [...ask, 'honest'] })
    expect(found.record.peerId).toBe(a.identity.peerId)
    expect(b.book.get(key)).toEqual(found)
  })
})
