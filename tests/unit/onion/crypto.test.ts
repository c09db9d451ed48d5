import { createHash } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { equalSecrets, isCanonicalPoint, isZero, nodeCrypto } from '../../../src/onion/crypto.ts'
import { nobleCrypto } from './noble-crypto.ts'

/** Deterministic bytes: a counter through SHA-512, so that a failing case can be found again. */
function createStream(seed: string) {
  let counter = 0
  let pool = Buffer.alloc(0)
  return (length: number): Uint8Array => {
    while (pool.length < length) {
      const block = createHash('sha512').update(`${seed} ${counter++}`).digest()
      pool = pool.length === 0 ? block : Buffer.concat([pool, block])
    }
    const bytes = pool.subarray(0, length)
    pool = pool.subarray(length)
    return bytes
  }
}

describe('node:crypto and noble agree', () => {
  it('on 10,000 random AES-256-GCM cases, both ways', () => {
    const next = createStream('gcm')
    const content = next(70_000)
    for (let i = 0; i < 10_000; i++) {
      // Mostly short, since noble does 50 MB/s; every 500th case is as long as the largest chunk.
      const length = i % 500 === 0 ? 61_440 : ((next(1)[0] ?? 0) * (i % 8)) >> 1
      const [key, nonce, aad] = [next(32), next(12), next(i % 40)]
      const plaintext = content.subarray(i % 8_000, (i % 8_000) + length)
      const sealed = new Uint8Array(length + 16)
      const again = new Uint8Array(length + 16)
      nodeCrypto.aead(key).seal(nonce, aad, plaintext, sealed, 0)
      nobleCrypto.aead(key).seal(nonce, aad, plaintext, again, 0)
      if (Buffer.compare(sealed, again) !== 0) expect(toHex(sealed), `case ${i}`).toBe(toHex(again))
      const opened = i % 2 === 0 ? nodeCrypto : nobleCrypto
      if (Buffer.compare(opened.aead(key).open(nonce, aad, sealed), plaintext) !== 0)
        expect.fail(`case ${i} opens differently`)
    }
  })

  it('on 2,000 random X25519 exchanges', () => {
    const next = createStream('x25519')
    for (let i = 0; i < 2_000; i++) {
      const [a, u] = [next(32), next(32)]
      expect(toHex(nodeCrypto.x25519(a, u)), `case ${i}`).toBe(toHex(nobleCrypto.x25519(a, u)))
    }
    for (let i = 0; i < 100; i++) {
      const a = next(32)
      expect(toHex(nodeCrypto.x25519PublicKey(a)), `case ${i}`).toBe(toHex(nobleCrypto.x25519PublicKey(a)))
    }
  })
})

describe('AES-256-GCM', () => {
  const [key, nonce, aad] = [Buffer.alloc(32, 1), Buffer.alloc(12, 2), Buffer.from('aad')]
  const sealed = new Uint8Array(5 + 16)
  nodeCrypto.aead(key).seal(nonce, aad, Buffer.from('hello'), sealed, 0)

  it('refuses every flipped bit and every other length of the tag', () => {
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const broken = Uint8Array.from(sealed)
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => nodeCrypto.aead(key).open(nonce, aad, broken), `bit ${bit}`).toThrow(/not authentic/)
    }
    for (const tagBytes of [0, 4, 8, 12, 15]) {
      expect(() => nodeCrypto.aead(key).open(nonce, aad, sealed.subarray(0, 5 + tagBytes))).toThrow(/not authentic/)
    }
    expect(() => nodeCrypto.aead(key).open(nonce, aad, Buffer.concat([sealed, Buffer.alloc(1)]))).toThrow(
      /not authentic/,
    )
    expect(Buffer.from(nodeCrypto.aead(key).open(nonce, aad, sealed)).toString()).toBe('hello')
  })

  it('refuses keys and nonces of the wrong length', () => {
    expect(() => nodeCrypto.aead(key.subarray(16)).open(nonce, aad, sealed)).toThrow(/key/)
    expect(() => nodeCrypto.aead(key).open(nonce.subarray(4), aad, sealed)).toThrow(/nonce/)
    expect(() => nodeCrypto.aead(key).seal(Buffer.alloc(16), aad, sealed, new Uint8Array(64), 0)).toThrow(/nonce/)
    expect(() => nodeCrypto.aead(key).seal(nonce, aad, sealed, new Uint8Array(sealed.length + 15), 0)).toThrow(/out/)
  })
})

it('tells canonical points from others', () => {
  const p = Buffer.from(`ed${'ff'.repeat(30)}7f`, 'hex')
  const below = Buffer.from(`ec${'ff'.repeat(30)}7f`, 'hex')
  expect(isCanonicalPoint(p)).toBe(false)
  expect(isCanonicalPoint(below)).toBe(true)
  expect(isCanonicalPoint(Buffer.alloc(32, 0xff))).toBe(false)
  expect(isCanonicalPoint(Buffer.alloc(31))).toBe(false)
  expect(isCanonicalPoint(Buffer.concat([Buffer.alloc(31), Buffer.of(0x80)]))).toBe(false)
})

it('compares without stopping early and knows zero', () => {
  expect(equalSecrets(Buffer.alloc(4), Buffer.alloc(4))).toBe(true)
  expect(equalSecrets(Buffer.alloc(4), Buffer.alloc(5))).toBe(false)
  expect(equalSecrets(Buffer.of(1, 2), Buffer.of(1, 3))).toBe(false)
  expect(isZero(Buffer.alloc(32))).toBe(true)
  expect(isZero(Buffer.of(0, 0, 1))).toBe(false)
})

it('key objects print as [secret]', () => {
  const secret = createSecret(Buffer.from('00112233445566778899aabbccddeeff', 'hex'))
  const shown = [inspect(secret, { depth: null, showHidden: true }), JSON.stringify({ secret }), `${secret}`].join()
  expect(shown).toBe('[secret],{"secret":"[secret]"},[secret]')
  secret.wipe()
  expect(isZero(secret.reveal())).toBe(true)
})
