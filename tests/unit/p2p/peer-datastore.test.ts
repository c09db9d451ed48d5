import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LevelDatastore } from 'datastore-level'
import { Key } from 'interface-datastore'
import { expect, onTestFinished, test, vi } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { openPeerDatastore } from '../../../src/p2p/peer-datastore.ts'

async function createFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'llm-peers-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const peer = (i: number) => new Key(`/peers/${i}`)
const value = (i: number) => Uint8Array.of(i, 7)

/** What is on the disk, by name. */
async function onDisk(folder: string): Promise<Map<string, Uint8Array>> {
  const level = new LevelDatastore(join(folder, 'peers'))
  await level.open()
  const found = new Map<string, Uint8Array>()
  for await (const { key, value } of level.query({})) found.set(key.toString(), new Uint8Array(value))
  await level.close()
  return found
}

test('what was put is there again after a restart, what was deleted is not', async () => {
  const folder = await createFolder()
  const first = await openPeerDatastore(folder, silentLogger)
  for (let i = 0; i < 3; i++) first.put(peer(i), value(i))
  first.put(new Key('/dht-lan/record/a'), value(9))
  first.delete(peer(1))
  expect([first.get(peer(0)), first.has(peer(1))]).toEqual([value(0), false])
  await first.close()
  const second = await openPeerDatastore(folder, silentLogger)
  expect([second.has(peer(0)), second.has(peer(1)), new Uint8Array(await second.get(peer(2)))]).toEqual([
    true,
    false,
    value(2),
  ])
  const names = []
  for await (const key of second.queryKeys({ prefix: '/peers' })) names.push(key.toString())
  expect(names.sort()).toEqual(['/peers/0', '/peers/2'])
  second.delete(peer(0))
  await second.close()
  expect([...(await onDisk(folder)).keys()].sort()).toEqual(['/dht-lan/record/a', '/peers/2'])
})

test('changes of the same second are one write, of the last value', async () => {
  const folder = await createFolder()
  const batches = vi.spyOn(LevelDatastore.prototype, 'batch')
  onTestFinished(() => batches.mockRestore())
  const store = await openPeerDatastore(folder, silentLogger)
  for (let i = 0; i < 100; i++) store.put(peer(i % 4), value(i))
  await vi.waitUntil(() => batches.mock.calls.length > 0, 10_000)
  expect(batches).toHaveBeenCalledTimes(1)
  await store.close()
  expect(batches).toHaveBeenCalledTimes(1)
  expect(await onDisk(folder)).toEqual(new Map([96, 97, 98, 99].map((i) => [`/peers/${i % 4}`, value(i)])))
})

test('a write that fails is tried again with the next', async () => {
  const folder = await createFolder()
  const warn = vi.fn()
  const store = await openPeerDatastore(folder, { ...silentLogger, warn } as never)
  const full = { put() {}, delete() {}, commit: () => Promise.reject(new Error('the disk is full')) }
  const batch = vi.spyOn(LevelDatastore.prototype, 'batch').mockReturnValueOnce(full as never)
  onTestFinished(() => batch.mockRestore())
  store.put(peer(1), value(1))
  await vi.waitUntil(() => warn.mock.calls.length > 0, 10_000)
  store.put(peer(2), value(2))
  await store.close()
  expect([...(await onDisk(folder)).keys()]).toEqual(['/peers/1', '/peers/2'])
})

test('of more peers than the limit the one goes that was noted longest ago, and only peers go', async () => {
  const folder = await createFolder()
  const store = await openPeerDatastore(folder, silentLogger)
  const other = new Key('/dht-lan/record/a')
  store.put(other, value(1))
  for (let i = 0; i < p2pLimits.knownPeers; i++) store.put(peer(i), value(i))
  store.put(peer(0), value(9))
  expect(store.has(peer(1))).toBe(true)
  store.put(peer(p2pLimits.knownPeers), value(1))
  expect([store.has(peer(0)), store.has(peer(1)), store.has(peer(2)), store.has(other)]).toEqual([
    true,
    false,
    true,
    true,
  ])
  await store.close()
  expect((await onDisk(folder)).size).toBe(p2pLimits.knownPeers + 1)
})
