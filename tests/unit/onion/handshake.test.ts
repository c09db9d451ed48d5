import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex, utf8 } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { type CircuitKeys, createClientHandshake, openCreate } from '../../../src/onion/handshake.ts'
import { nobleCrypto } from './noble-crypto.ts'

interface Vectors {
  readonly inputs: Record<'b' | 'B' | 'ID' | 'x' | 'X' | 'y' | 'Y' | 'CM' | 'SM' | 'VER', string>
  readonly derived: Record<'C1' | 'C2' | 'AUTH' | 'Kf' | 'IVf' | 'Kb' | 'IVb' | 'CK', string>
}
const path = new URL('../../vectors/handshake.json', import.meta.url)
const { inputs, derived } = JSON.parse(readFileSync(path, 'utf8')) as Vectors
const network = Buffer.from(inputs.VER, 'hex').toString()
const target = { addressKey: fromHex(inputs.ID), onionKey: fromHex(inputs.B) }

const client = (crypto = nodeCrypto, change: { network?: string } = {}) =>
  createClientHandshake(
    { target, network: change.network ?? network, clientMessage: fromHex(inputs.CM), privateKey: fromHex(inputs.x) },
    crypto,
  )
const own = () => ({
  addressKey: fromHex(inputs.ID),
  onionKeys: [{ publicKey: fromHex(inputs.B), privateKey: createSecret(fromHex(inputs.b)) }],
  network,
})
const hexKeys = (keys: CircuitKeys) => [keys.forward, keys.backward].map((key) => toHex(key.reveal()))
const expectedCreate = inputs.ID + inputs.B + inputs.X + derived.C1
const expectedCreated = inputs.Y + derived.AUTH + derived.C2
const expectedKeys = [derived.Kf + derived.IVf + derived.CK, derived.Kb + derived.IVb + derived.CK]

describe.each([
  ['node:crypto', nodeCrypto],
  ['noble', nobleCrypto],
])('handshake vectors through %s', (_, crypto) => {
  it('initiator', () => {
    const handshake = client(crypto)
    expect(toHex(handshake.publicKey)).toBe(inputs.X)
    expect(toHex(handshake.create)).toBe(expectedCreate)
    const { serverMessage, keys } = handshake.finish(fromHex(expectedCreated))
    expect(toHex(serverMessage)).toBe(inputs.SM)
    expect(hexKeys(keys)).toEqual(expectedKeys)
  })

  it('responder', () => {
    const opened = openCreate(fromHex(expectedCreate), own(), crypto)
    expect(toHex(opened.clientMessage)).toBe(inputs.CM)
    const { created, keys } = opened.answer(fromHex(inputs.SM), fromHex(inputs.y))
    expect(toHex(created)).toBe(expectedCreated)
    expect(hexKeys(keys)).toEqual(expectedKeys)
  })
})

describe('handshake', () => {
  it('gives both ends the same keys, fresh ones each time', () => {
    const seen = new Set<string>()
    for (let i = 0; i < 3; i++) {
      const handshake = createClientHandshake({ target, network, clientMessage: utf8('hi') }, nodeCrypto)
      const { created, keys } = openCreate(handshake.create, own(), nodeCrypto).answer(utf8('ho'))
      const result = handshake.finish(created)
      expect(hexKeys(result.keys)).toEqual(hexKeys(keys))
      expect(toHex(result.keys.exporter.reveal())).toBe(toHex(keys.exporter.reveal()))
      seen.add(toHex(keys.forward.reveal()))
      expect(inspect([handshake, result, keys], { depth: null, showHidden: true })).not.toContain('Secret')
      expect(inspect(keys)).toContain('[secret]')
    }
    expect(seen.size).toBe(3)
  })

  it('refuses every flipped bit of CREATE', () => {
    const create = fromHex(expectedCreate)
    for (let bit = 0; bit < create.length * 8; bit++) {
      expect(() => openCreate(flip(create, bit), own(), nodeCrypto), `bit ${bit}`).toThrow(/not authentic/)
    }
  })

  it('refuses every flipped bit of CREATED, a swapped Y and a forged AUTH, and is over then', () => {
    const created = fromHex(expectedCreated)
    for (let bit = 0; bit < created.length * 8; bit++) {
      expect(() => client().finish(flip(created, bit)), `bit ${bit}`).toThrow(/not authentic/)
    }
    const other = openCreate(fromHex(expectedCreate), own(), nodeCrypto).answer(fromHex(inputs.SM)).created
    const swapped = Buffer.concat([other.subarray(0, 32), created.subarray(32)])
    const forged = Buffer.concat([created.subarray(0, 32), other.subarray(32, 64), created.subarray(64)])
    expect(() => client().finish(swapped)).toThrow(/not authentic/)
    expect(() => client().finish(forged)).toThrow(/not authentic/)
    const handshake = client()
    expect(() => handshake.finish(swapped)).toThrow(/not authentic/)
    expect(() => handshake.finish(created)).toThrow(/not authentic/)
  })

  it('refuses cut off messages', () => {
    for (const length of [0, 31, 63]) {
      expect(() => client().finish(fromHex(expectedCreated).subarray(0, length))).toThrow(/cut off/)
    }
    for (const length of [0, 95]) {
      expect(() => openCreate(fromHex(expectedCreate).subarray(0, length), own(), nodeCrypto)).toThrow(/cut off/)
    }
    expect(() => openCreate(fromHex(expectedCreate).subarray(0, 111), own(), nodeCrypto)).toThrow(/not authentic/)
  })

  it('ends when the two are in different networks, or the address or the onion key is another', () => {
    expect(() => openCreate(client(nodeCrypto, { network: 'other' }).create, own(), nodeCrypto)).toThrow(/authentic/)
    expect(() => openCreate(client().create, { ...own(), addressKey: new Uint8Array(32) }, nodeCrypto)).toThrow()
    expect(() => openCreate(client().create, { ...own(), onionKeys: [] }, nodeCrypto)).toThrow(/authentic/)
  })

  it('answers under the previous onion key too', () => {
    const keys = own()
    const current = { publicKey: new Uint8Array(32).fill(9), privateKey: createSecret(new Uint8Array(32).fill(1)) }
    const opened = openCreate(client().create, { ...keys, onionKeys: [current, ...keys.onionKeys] }, nodeCrypto)
    expect(toHex(opened.clientMessage)).toBe(inputs.CM)
  })

  it.each(dishonestPoints())('refuses the point %s in every place', (hex) => {
    const point = fromHex(hex)
    const options = { target: { ...target, onionKey: point }, network, clientMessage: utf8('hi') }
    expect(() => createClientHandshake(options, nodeCrypto), 'B').toThrow(/not authentic/)
    const create = Buffer.concat([fromHex(inputs.ID), fromHex(inputs.B), point, fromHex(derived.C1)])
    expect(() => openCreate(create, own(), nodeCrypto), 'X').toThrow(/not authentic/)
    const created = Buffer.concat([point, fromHex(expectedCreated).subarray(32)])
    expect(() => client().finish(created), 'Y').toThrow(/not authentic/)
  })
})

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const changed = Uint8Array.from(bytes)
  changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return changed
}

/** All low-order and non-canonical points of Wycheproof. */
function dishonestPoints(): string[] {
  const file = new URL('../../vectors/wycheproof/x25519_test.json', import.meta.url)
  const { testGroups } = JSON.parse(readFileSync(file, 'utf8')) as {
    testGroups: { tests: { public: string; flags: string[] }[] }[]
  }
  const wanted = new Set(['LowOrderPublic', 'NonCanonicalPublic', 'ZeroSharedSecret'])
  const tests = testGroups.flatMap((group) => group.tests)
  return [...new Set(tests.filter((test) => test.flags.some((flag) => wanted.has(flag))).map((test) => test.public))]
}
