import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ed25519 } from '@noble/curves/ed25519.js'
import { afterEach, expect, it } from 'vitest'
import { toHex } from '../../../src/base/bytes.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { createContactPeers } from '../../../src/node/contact-peers.ts'
import { addContact, removeContact } from '../../../src/node/contacts.ts'
import { locateHome, prepareHome } from '../../../src/node/home.ts'
import type { StoredContact } from '../../../src/p2p/contact-book.ts'
import { createCleanup, temporaryFolder } from '../../integration/p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const [anna = new Uint8Array(), berta = new Uint8Array()] = [1, 2].map((seed) =>
  ed25519.getPublicKey(new Uint8Array(32).fill(seed)),
)
const MINUTE = 60_000

it('contacts are known by the PeerId of their record, within a minute of being added or removed', async () => {
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  await prepareHome(home)
  const time = { ms: 0 }
  const records = new Map([anna, berta].map((key) => [toHex(key), recordOf(key)]))
  const asked: string[] = []
  let onGet = () => {}
  const book = {
    get(key: Uint8Array) {
      asked.push(toHex(key))
      onGet()
      return records.get(toHex(key))
    },
  }
  await addContact(home, { petname: 'Anna', addressKey: anna, addrs: [] })
  /** The file has been read, and the record of the one contact looked up. */
  const looked = () =>
    new Promise<void>((resolve) => {
      onGet = () => setImmediate(resolve)
    })
  const first = looked()
  const isContact = createContactPeers(home, {
    ...{ book, logger: silentLogger },
    clock: { nowMs: () => 0, monotonicMs: () => time.ms },
  })
  await first
  expect([isContact(peerIdOf(anna)), isContact(peerIdOf(berta))]).toEqual([true, false])
  await removeContact(home, 'Anna')
  await addContact(home, { petname: 'Berta', addressKey: berta, addrs: [] })
  time.ms = MINUTE - 1
  expect(isContact(peerIdOf(anna))).toBe(true)
  time.ms = MINUTE
  const second = looked()
  isContact('somebody')
  await second
  expect([isContact(peerIdOf(anna)), isContact(peerIdOf(berta))]).toEqual([false, true])
  expect(asked).toEqual([toHex(anna), toHex(berta)])
})

it('a file that is damaged makes everybody a stranger, and stops nothing', async () => {
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  await prepareHome(home)
  await writeFile(join(home.dataFolder, 'contacts.json'), '{')
  const warned = new Promise<string>((resolve) => {
    const logger = { ...silentLogger, warn: (_: unknown, text?: string) => resolve(text ?? '') }
    const isContact = createContactPeers(home, {
      ...{ book: { get: () => undefined }, logger: logger as typeof silentLogger },
      clock: { nowMs: () => 0, monotonicMs: () => 0 },
    })
    expect(isContact(peerIdOf(anna))).toBe(false)
  })
  expect(await warned).toMatch(/all peers are strangers/)
})

const peerIdOf = (key: Uint8Array) => `peer ${toHex(key).slice(0, 8)}`

function recordOf(addressKey: Uint8Array): StoredContact {
  const times = { sequence: 1, issuedMs: 0, expiresMs: 1, onionKeyEndsMs: 1 }
  const rest = { flags: 0, onionKey: addressKey, peerId: peerIdOf(addressKey), addrs: [], familyKeys: [] }
  return { bytes: new Uint8Array(), record: { ...times, ...rest, addressKey } }
}
