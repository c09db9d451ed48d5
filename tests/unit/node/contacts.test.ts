import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ed25519 } from '@noble/curves/ed25519.js'
import { afterEach, describe, expect, it } from 'vitest'
import {
  addContact,
  getContact,
  listContacts,
  markVerified,
  parseTarget,
  removeContact,
} from '../../../src/node/contacts.ts'
import { type Home, locateHome, prepareHome } from '../../../src/node/home.ts'
import { encodeAddress } from '../../../src/p2p/address.ts'
import { createCleanup, temporaryFolder } from '../../integration/p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

const keyOf = (seed: number) => ed25519.getPublicKey(new Uint8Array(32).fill(seed))
const addr = '/ip4/192.168.1.7/tcp/5561'

async function newHome(): Promise<Home> {
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  await prepareHome(home)
  return home
}

describe('contacts', () => {
  it('are kept for this user alone, and found by name and address', async () => {
    const home = await newHome()
    const { contact, warnings } = await addContact(home, { petname: 'Anna', addressKey: keyOf(1), addrs: [addr] })
    expect(warnings).toEqual([])
    expect((await stat(join(home.dataFolder, 'contacts.json'))).mode & 0o777).toBe(0o600)
    expect(await getContact(home, 'anna')).toEqual(contact)
    expect(await getContact(home, contact.address)).toEqual(contact)
    const target = await parseTarget(home, 'ANNA')
    expect(target).toMatchObject({ address: contact.address, addrs: [addr], petname: 'Anna' })
    expect((await parseTarget(home, `llm://${contact.address}?a=/ip4/10.0.0.1/tcp/1`)).addrs).toEqual([
      '/ip4/10.0.0.1/tcp/1',
      addr,
    ])
    await expect(parseTarget(home, 'Berta')).rejects.toMatchObject({
      code: 'BAD_ADDRESS',
      message: '"Berta" is no contact and no address.',
    })
    await removeContact(home, 'Anna')
    await expect(getContact(home, 'Anna')).rejects.toMatchObject({ code: 'BAD_INPUT' })
  })

  it('keep the first address of a name; another one is a loud error until it is replaced on purpose', async () => {
    const home = await newHome()
    await addContact(home, { petname: 'Anna', addressKey: keyOf(1), addrs: [] })
    await markVerified(home, 'Anna')
    const posing = { petname: 'ANNA', addressKey: keyOf(2), addrs: [] }
    await expect(addContact(home, posing)).rejects.toMatchObject({ code: 'CONTACT_CHANGED' })
    expect((await getContact(home, 'Anna')).address).toBe(encodeAddress(keyOf(1)))
    const { contact, warnings } = await addContact(home, { ...posing, replace: true })
    expect(contact).toMatchObject({ address: encodeAddress(keyOf(2)), verified: false })
    expect(warnings.join()).toContain(encodeAddress(keyOf(1)))
    expect(await listContacts(home)).toHaveLength(1)
  })

  it('keep what was verified when the same address comes again', async () => {
    const home = await newHome()
    await addContact(home, { petname: 'Anna', addressKey: keyOf(1), addrs: [] })
    await markVerified(home, 'Anna')
    const { contact } = await addContact(home, { petname: 'anna', addressKey: keyOf(1), addrs: [addr] })
    expect(contact).toMatchObject({ petname: 'Anna', verified: true, addrs: [addr] })
    const other = addContact(home, { petname: 'Berta', addressKey: keyOf(1), addrs: [] })
    await expect(other).rejects.toThrow(/known as Anna/)
  })

  it('warn of an address that looks like a known one', async () => {
    const home = await newHome()
    await addContact(home, { petname: 'Anna', addressKey: keyOf(1), addrs: [] })
    // Bytes 3 to 31 of a key that begins like Anna's, found by trying: its first four characters are the same.
    const twin = twinOf(keyOf(1))
    const { warnings } = await addContact(home, { petname: 'Berta', addressKey: twin, addrs: [] })
    expect(warnings.join()).toContain('looks like the one of Anna')
    expect((await addContact(home, { petname: 'Cora', addressKey: keyOf(3), addrs: [] })).warnings).toEqual([])
  })

  it.each([
    ['Anna', '\u0410nna'],
    ['Anna', 'Ann\u00e0'],
    ['Paul', 'Pau1'],
    ['Paul', '\u0420\u0430ul'],
    ['Marc', 'Rnarc'],
    ['Bob Miller', 'Bob-MiIIer'],
  ])('warn of a name that looks like a known one: %s, %s', async (known, twin) => {
    const home = await newHome()
    await addContact(home, { petname: known, addressKey: keyOf(1), addrs: [] })
    const { warnings } = await addContact(home, { petname: twin, addressKey: keyOf(3), addrs: [] })
    expect(warnings).toEqual([expect.stringContaining(`${twin} looks like ${known}`)])
    // The contact itself, told of again, is no look-alike of itself.
    expect((await addContact(home, { petname: known, addressKey: keyOf(1), addrs: [addr] })).warnings).toHaveLength(1)
    const other = await addContact(home, { petname: 'Zoe', addressKey: keyOf(4), addrs: [] })
    expect(other.warnings).toEqual([])
  })

  it('are never replaced by an empty list when the file is damaged', async () => {
    const home = await newHome()
    await writeFile(join(home.dataFolder, 'contacts.json'), '{"version":1')
    const add = addContact(home, { petname: 'Anna', addressKey: keyOf(1), addrs: [] })
    await expect(add).rejects.toMatchObject({ code: 'HOME_UNUSABLE' })
  })
})

/** Another valid key with the same first three bytes: one in about 16 candidates is a point of prime order. */
function twinOf(key: Uint8Array): Uint8Array {
  for (let i = 1; i < 10_000; i++) {
    const twin = Uint8Array.from(key)
    twin[10] = (twin[10] ?? 0) ^ (i & 255)
    twin[11] = (twin[11] ?? 0) ^ (i >> 8)
    try {
      encodeAddress(twin)
      return twin
    } catch {
      // No point of prime order; the next.
    }
  }
  throw new Error('no twin')
}
