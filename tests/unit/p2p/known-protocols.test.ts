/** On libp2p's own peer store, over a datastore that counts. */
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { MemoryDatastore } from 'datastore-core'
import { createLibp2p } from 'libp2p'
import { expect, onTestFinished, test } from 'vitest'
import { noteProtocolsOnce } from '../../../src/p2p/known-protocols.ts'

const PING = '/ping/1'
const OTHER = '/other/1'

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
  noteProtocolsOnce(store, { peers: 2, nowMs: () => count.nowMs })
  const newPeer = async () => peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  const writes = async (work: () => Promise<unknown>): Promise<number> => {
    const before = count.writes
    await work()
    return count.writes - before
  }
  const note = (id: PeerId, protocol: string) => writes(() => store.merge(id, { protocols: [protocol] }))
  return { store, count, newPeer, writes, note }
}

test('the same protocol of a peer is written once', async () => {
  const { store, newPeer, note } = await createStore()
  const [anna, ben] = [await newPeer(), await newPeer()]
  expect([await note(anna, PING), await note(anna, PING), await note(ben, PING)]).toEqual([1, 0, 1])
  expect([await note(anna, OTHER), await note(anna, PING), await note(anna, OTHER)]).toEqual([1, 0, 0])
  expect((await store.get(anna)).protocols).toEqual([OTHER, PING])
  const noted = await store.merge(anna, { protocols: [PING] })
  expect([noted.id.equals(anna), noted.protocols]).toEqual([true, [OTHER, PING]])
})

test('what else is noted of a peer is always written, and a protocol anew after it', async () => {
  const { store, newPeer, note, writes } = await createStore()
  const anna = await newPeer()
  await note(anna, PING)
  const others = [
    () => store.merge(anna, { protocols: [PING], tags: { a: { value: 1 } } }),
    () => store.merge(anna, { protocols: [PING, OTHER] }),
    () => store.merge(anna, { metadata: { a: Uint8Array.of(1) } }),
    () => store.patch(anna, { protocols: [] }),
    () => store.save(anna, {}),
  ]
  for (const other of others) {
    expect(await writes(other)).toBe(1)
    expect([await note(anna, PING), await note(anna, PING)]).toEqual([1, 0])
  }
  await store.delete(anna)
  expect(await note(anna, PING)).toBe(1)
  expect((await store.get(anna)).protocols).toEqual([PING])
})

test('a change that ends while a protocol is being noted is not outlived by it', async () => {
  const { store, newPeer, note } = await createStore()
  const anna = await newPeer()
  await Promise.all([note(anna, PING), store.patch(anna, { protocols: [OTHER] })])
  await note(anna, PING)
  expect((await store.get(anna)).protocols).toContain(PING)
})

test('after a while it is noted anew, so that a peer that stays is not forgotten; and few are remembered', async () => {
  const { count, newPeer, note } = await createStore()
  const [anna, ben, cleo] = [await newPeer(), await newPeer(), await newPeer()]
  await note(anna, PING)
  count.nowMs = 599_999
  expect(await note(anna, PING)).toBe(0)
  count.nowMs = 600_000
  expect(await note(anna, PING)).toBe(1)
  await note(ben, PING)
  expect(await note(anna, PING)).toBe(0)
  await note(cleo, PING)
  expect(await note(anna, PING)).toBe(1)
})
