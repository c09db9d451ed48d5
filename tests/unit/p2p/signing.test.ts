import { ed25519 } from '@noble/curves/ed25519.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { expect, test } from 'vitest'
import { concatBytes, fromHex, utf8 } from '../../../src/base/bytes.ts'
import { appendSignature, hasSignature } from '../../../src/p2p/signing.ts'

const { Point } = ed25519
const seed = fromHex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60')
const addressKey = ed25519.getPublicKey(seed)
const by = { label: 'llm test v1', network: 'test' }
const record = utf8('a record')

const signWith = (sign: (message: Uint8Array) => Uint8Array) => appendSignature(record, { ...by, sign })
const isSigned = (signed: Uint8Array) => hasSignature(signed, { ...by, addressKey })

/** Not as RFC 8032: with a point of order 8 added to R, which the equation times the cofactor does not see. */
function signWithTorsion(message: Uint8Array): Uint8Array {
  const order8 = Point.fromBytes(fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'))
  const { scalar } = ed25519.utils.getExtendedPublicKey(seed)
  const r = 123_456_789n
  const R = Point.BASE.multiply(r).add(order8).toBytes()
  const k = numberFromLittleEndian(sha512(concatBytes(R, addressKey, message)))
  const s = (r + k * scalar) % Point.Fn.ORDER
  return concatBytes(R, littleEndian(s))
}

const littleEndian = (value: bigint) => fromHex(value.toString(16).padStart(64, '0')).reverse()
const numberFromLittleEndian = (bytes: Uint8Array) =>
  bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)

test('a signature counts for its bytes, label, network and key', () => {
  const signed = signWith((message) => ed25519.sign(message, seed))
  expect(isSigned(signed)).toBe(true)
  expect(hasSignature(signed, { ...by, addressKey, label: 'llm other v1' })).toBe(false)
  expect(hasSignature(signed, { ...by, addressKey, network: 'other' })).toBe(false)
  expect(hasSignature(signed, { ...by, addressKey: addressKey.subarray(1) })).toBe(false)
  for (let bit = 0; bit < 8 * signed.length; bit++) {
    const flipped = signed.slice()
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    expect(isSigned(flipped), `bit ${bit}`).toBe(false)
  }
})

test('the equation is the one without the cofactor, which leaves one signature where the other leaves eight', () => {
  const signed = signWith(signWithTorsion)
  const message = concatBytes(utf8(by.label), fromHex('0000000000000004'), utf8(by.network), record)
  expect(ed25519.verify(signed.subarray(-64), message, addressKey, { zip215: false })).toBe(true)
  expect(isSigned(signed)).toBe(false)
})

test('S has one way to be written', () => {
  const signed = signWith((message) => ed25519.sign(message, seed))
  const s = numberFromLittleEndian(signed.subarray(-32))
  expect(isSigned(concatBytes(signed.subarray(0, -32), littleEndian(s + Point.Fn.ORDER)))).toBe(false)
})
