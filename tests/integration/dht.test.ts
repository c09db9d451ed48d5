import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { type ContactBook, createContactBook } from '../../src/p2p/contact-book.ts'
import type { PeerNodeOptions } from '../../src/p2p/peer-node.ts'
import { createCleanup, eventually, startPeer, type TestPeer, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

interface DhtPeer extends TestPeer {
  readonly book: ContactBook
}

async function startDhtPeer(
  bootstrap: readonly string[] = [],
  network = 'test',
  more: Partial<PeerNodeOptions> & { identityFolder?: string } = {},
): Promise<DhtPeer> {
  let book: ContactBook | undefined
  const peer = await startPeer(cleanup, { network, bootstrap, dht: true, ...more }, async (node, identity) => {
    book = await createContactBook({ network }, { identity, node, clock: systemClock, logger: silentLogger })
  })
  if (book === undefined) throw new Error('no book')
  const made = book
  cleanup.add(() => made.stop())
  return { ...peer, book: made }
}

/** A chain: everybody knows only the one in the middle. */
async function startThree(): Promise<[DhtPeer, DhtPeer, DhtPeer]> {
  const middle = await startDhtPeer()
  const [a, b] = [await startDhtPeer(middle.bootstrap), await startDhtPeer(middle.bootstrap)]
  await eventually(() => middle.node.connections().length === 2, 5_000)
  return [a, middle, b]
}

describe('contact records in the DHT', () => {
  it('are found by nodes that never met their owner', async () => {
    const [a, middle, b] = await startThree()
    await b.book.start()
    await eventually(() => middle.book.get(b.identity.addressKey), 8_000)
    await b.book.stop()
    await b.node.stop()
    // The usual way is closed: nobody is asked but the DHT.
    const { record } = await a.book.find(b.identity.addressKey, { signal, ask: [] })
    expect(record.peerId).toBe(b.node.self.peerId)
  })

  it('are kept by a bootstrap node across its restart, as is its table', async () => {
    const [identityFolder, folder] = [await temporaryFolder(cleanup), await temporaryFolder(cleanup)]
    const own = { vouched: true, identityFolder, folder }
    const first = await startDhtPeer([], 'test', own)
    const b = await startDhtPeer(first.bootstrap)
    const other = await startDhtPeer(first.bootstrap)
    await b.book.start()
    await eventually(() => first.book.get(b.identity.addressKey), 8_000)
    await b.book.stop()
    await b.node.stop()
    await first.book.stop()
    await first.node.stop()
    const listen = first.target.addrs.slice()
    const again = await startDhtPeer([], 'test', { ...own, listen })
    expect(again.bootstrap).toEqual(first.bootstrap)
    // It dials whom it knew, without being told of anybody.
    await eventually(() => again.node.isConnected(other.node.self.peerId), 8_000)
    const newcomer = await startDhtPeer(again.bootstrap)
    await eventually(() => newcomer.node.isConnected(again.node.self.peerId), 5_000)
    await eventuallyTaken(async () => {
      const found = await newcomer.book.find(b.identity.addressKey, { signal, ask: [] }).catch(() => undefined)
      return found?.record.peerId === b.node.self.peerId ? 1 : 0
    })
  })

  it('of an unknown address are looked for in vain, soon', async () => {
    const [a, , b] = await startThree()
    const startMs = performance.now()
    const found = a.book.find(b.identity.addressKey, { signal, ask: [] })
    await expect(found).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(performance.now() - startMs).toBeLessThan(10_000)
  })
})

describe('meeting points', () => {
  it('bring together who belongs to them', async () => {
    const [a, , b] = await startThree()
    const point = new Uint8Array(32).fill(5)
    await eventuallyTaken(() => b.node.dht?.provide(point, { signal }))
    const members = (await a.node.dht?.members(point, { signal })) ?? []
    expect(members).toMatchObject([{ peerId: b.node.self.peerId }])
    await a.node.connect(members[0] ?? b.target, { signal })
    expect(await a.node.dht?.members(new Uint8Array(32).fill(6), { signal })).toEqual([])
  })

  it('of two networks stay apart', async () => {
    const first = await startDhtPeer()
    const other = await startDhtPeer(first.bootstrap, 'other')
    await eventually(() => other.node.isConnected(first.node.self.peerId), 3_000)
    expect(await other.node.dht?.provide(new Uint8Array(32).fill(5), { signal })).toBe(0)
  })
})

/** Routing tables fill a moment after a connection. */
async function eventuallyTaken(task: () => Promise<number> | undefined): Promise<void> {
  for (let attempt = 0; attempt < 40; attempt++) {
    if (((await task()) ?? 0) > 0) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('nobody took it')
}
