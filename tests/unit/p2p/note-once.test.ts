/** On libp2p's own peer store, over a datastore that counts. */
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryDatastore } from 'datastore-core'
import { createLibp2p } from 'libp2p'
import { expect, onTestFinished, test } from 'vitest'
import { noteOnce } from '../../../src/p2p/note-once.ts'

const PING = '/ping/1'
const OTHER = '/other/1'
const HERE = '/ip4/127.0.0.1/tcp/1'
const THERE = '/ip4/127.0.0.1/tcp/2'

async function createStore() {
  const datastore = new MemoryDatastore()
  const put = datastore.put.bind(datastore)
  const count = { writes: 0, nowMs: 0 }
  datastore.put = (key, value) => {
    count.writes++
    return put(key, value)
  }
  const host = await createLibp2p({ start: false, datastore })
  onTestFinished(() => host.stop())
  const store = host.peerStore
  noteOnce(store, { peers: 2, nowMs: () => count.nowMs })
  const newPeer = async () => peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  const writes = async (work: () => Promise<unknown>): Promise<number> => {
    const before = count.writes
    await work()
    return count.writes - before
  }
  const note = (id: PeerId, ...protocols: string[]) => writes(() => store.merge(id, { protocols }))
  const place = (id: PeerId, ...addrs: string[]) => writes(() => store.merge(id, { multiaddrs: addrs.map(multiaddr) }))
  return { store, count, newPeer, writes, note, place }
}

test('the same protocols and addresses of a peer are written once', async () => {
  const { store, newPeer, note, place } = await createStore()
  const [anna, ben] = [await newPeer(), await newPeer()]
  expect([await note(anna, PING), await note(anna, PING), await note(ben, PING)]).toEqual([1, 0, 1])
  expect([await note(anna, PING, OTHER), await note(anna, PING), await note(anna, OTHER)]).toEqual([1, 0, 0])
  expect([await place(anna, HERE), await place(anna, HERE), await place(anna, THERE)]).toEqual([1, 0, 1])
  expect([await place(anna, `${THERE}/p2p/${anna}`, HERE), await place(anna)]).toEqual([0, 0])
  expect([await note(anna, PING), await place(ben, HERE)]).toEqual([0, 1])
  const [stored, noted] = [await store.get(anna), await store.merge(anna, { protocols: [PING] })]
  expect(noted.id.equals(anna)).toBe(true)
  for (const peer of [stored, noted]) {
    expect(peer.protocols).toEqual([OTHER, PING])
    expect(peer.addresses.map((each) => each.multiaddr.toString())).toEqual([HERE, THERE])
  }
})

test('what else is noted of a peer is always written', async () => {
  const { store, newPeer, note, writes } = await createStore()
  const anna = await newPeer()
  await note(anna, PING)
  const others = [
    () => store.merge(anna, { protocols: [PING], tags: { a: { value: 1 } } }),
    () => store.merge(anna, { metadata: { a: Uint8Array.of(1) } }),
    () => store.merge(anna, { addresses: [{ multiaddr: multiaddr(HERE), isCertified: true }] }),
    () => store.patch(anna, { protocols: [PING] }),
  ]
  for (const other of others) {
    expect([await writes(other), await writes(other), await note(anna, PING)]).toEqual([1, 1, 0])
  }
  expect((await store.get(anna)).addresses).toHaveLength(1)
})

test('what was taken away is written anew', async () => {
  const { store, newPeer, note, place } = await createStore()
  const anna = await newPeer()
  const takes = [
    () => store.patch(anna, { protocols: [], multiaddrs: [] }),
    () => store.save(anna, {}),
    () => store.delete(anna),
  ]
  for (const take of takes) {
    await Promise.all([note(anna, PING), place(anna, HERE)])
    await take()
    expect([await note(anna, PING), await place(anna, HERE)]).toEqual([1, 1])
    expect((await store.get(anna)).protocols).toEqual([PING])
  }
  // Also when it is taken away just now.
  await Promise.all([note(anna, OTHER), store.patch(anna, { protocols: [] })])
  expect(await note(anna, OTHER)).toBe(1)
})

test('after a while the same is written anew, so that a peer that stays is not forgotten; and few are remembered', async () => {
  const { count, newPeer, note } = await createStore()
  const [anna, ben, cleo] = [await newPeer(), await newPeer(), await newPeer()]
  await note(anna, PING)
  count.nowMs = 599_999
  expect(await note(anna, PING)).toBe(0)
  count.nowMs = 600_000
  expect([await note(anna, PING), await note(anna, PING)]).toEqual([1, 0])
  // Another write does not make it younger.
  count.nowMs = 1_100_000
  await note(anna, OTHER)
  count.nowMs = 1_200_000
  expect(await note(anna, PING)).toBe(1)
  await note(ben, PING)
  expect(await note(anna, PING)).toBe(0)
  await note(cleo, PING)
  expect([await note(ben, PING), await note(anna, PING)]).toEqual([0, 1])
})
