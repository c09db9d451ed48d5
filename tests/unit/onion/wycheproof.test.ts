import { createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, it } from 'vitest'
import { concatBytes, fromHex, toHex } from '../../../src/base/bytes.ts'
import { type CryptoBackend, equalSecrets, isCanonicalPoint, nodeCrypto } from '../../../src/onion/crypto.ts'
import { nobleCrypto } from './noble-crypto.ts'

interface Group<T> {
  readonly keySize?: number
  readonly ivSize?: number
  readonly tagSize?: number
  readonly publicKey?: { readonly pk: string }
  readonly tests: readonly (T & { tcId: number; result: 'valid' | 'invalid' | 'acceptable'; flags: string[] })[]
}

function groupsOf<T>(name: string): readonly Group<T>[] {
  const path = new URL(`../../vectors/wycheproof/${name}_test.json`, import.meta.url)
  return (JSON.parse(readFileSync(path, 'utf8')) as { testGroups: Group<T>[] }).testGroups
}

const backends: readonly [string, CryptoBackend][] = [
  ['node:crypto', nodeCrypto],
  ['noble', nobleCrypto],
]

/** Each case is counted as run or as skipped with its reason; a changed file cannot shrink the test unnoticed. */
function createTally() {
  const skipped: Record<string, number> = {}
  const tally = {
    run: 0,
    skipped,
    skip(reason: string) {
      skipped[reason] = (skipped[reason] ?? 0) + 1
    },
  }
  return tally
}

describe.each(backends)('Wycheproof through %s', (_, crypto) => {
  it('AES-256-GCM with 96-bit nonces and 128-bit tags', () => {
    type Case = { key: string; iv: string; aad: string; msg: string; ct: string; tag: string }
    const tally = createTally()
    for (const group of groupsOf<Case>('aes_gcm')) {
      for (const test of group.tests) {
        if (group.keySize !== 256) tally.skip('key is not 256 bits')
        else if (group.ivSize !== 96) tally.skip('nonce is not 96 bits')
        else if (group.tagSize !== 128) tally.skip('tag is not 128 bits')
        else {
          tally.run++
          const [key, iv, aad, msg] = [fromHex(test.key), fromHex(test.iv), fromHex(test.aad), fromHex(test.msg)]
          const open = () => toHex(crypto.aead(key).open(iv, aad, fromHex(test.ct + test.tag)))
          if (test.result === 'valid') {
            expect(open(), `tcId ${test.tcId}`).toBe(test.msg)
            const out = new Uint8Array(3 + msg.length + 16)
            crypto.aead(key).seal(iv, aad, msg, out, 3)
            expect(toHex(out), `tcId ${test.tcId}`).toBe(`000000${test.ct}${test.tag}`)
          } else {
            expect(open, `tcId ${test.tcId}`).toThrow(/not authentic/)
          }
        }
      }
    }
    expect({ run: tally.run, skipped: tally.skipped }).toEqual({
      run: 66,
      skipped: { 'key is not 256 bits': 211, 'nonce is not 96 bits': 39 },
    })
  })

  it('AES-GCM of any other shape is refused, not computed', () => {
    type Case = { key: string; iv: string; aad: string; msg: string; ct: string; tag: string }
    if (crypto !== nodeCrypto) return
    let refused = 0
    for (const { keySize, ivSize, tests } of groupsOf<Case>('aes_gcm')) {
      if (keySize === 256 && ivSize === 96) continue
      for (const test of tests) {
        const [key, iv, aad, msg] = [fromHex(test.key), fromHex(test.iv), fromHex(test.aad), fromHex(test.msg)]
        const out = new Uint8Array(msg.length + 16)
        expect(() => crypto.aead(key).seal(iv, aad, msg, out, 0), `tcId ${test.tcId}`).toThrow(/wrong length/)
        expect(() => crypto.aead(key).open(iv, aad, fromHex(test.ct + test.tag))).toThrow(/wrong length/)
        refused++
      }
    }
    expect(refused).toBe(211 + 39)
  })

  it('X25519', () => {
    type Case = { public: string; private: string; shared: string }
    const tally = createTally()
    let zeroShared = 0
    for (const group of groupsOf<Case>('x25519')) {
      for (const test of group.tests) {
        tally.run++
        const shared = () => toHex(crypto.x25519(fromHex(test.private), fromHex(test.public)))
        if (test.flags.includes('ZeroSharedSecret')) {
          zeroShared++
          expect(shared, `tcId ${test.tcId}`).toThrow(/not authentic/)
        } else {
          expect(shared(), `tcId ${test.tcId}`).toBe(test.shared)
        }
        const canonical = isCanonicalPoint(fromHex(test.public))
        const u = BigInt(`0x${toHex(fromHex(test.public).reverse())}`)
        expect(canonical, `tcId ${test.tcId}`).toBe(u < 2n ** 255n - 19n)
        if (test.flags.includes('NonCanonicalPublic')) expect(canonical, `tcId ${test.tcId}`).toBe(false)
      }
    }
    expect([tally.run, zeroShared]).toEqual([518, 31])
  })

  it('HKDF-SHA256', () => {
    type Case = { ikm: string; salt: string; info: string; size: number; okm: string }
    let run = 0
    for (const group of groupsOf<Case>('hkdf_sha256')) {
      for (const test of group.tests) {
        run++
        const derive = () => toHex(crypto.hkdf(fromHex(test.ikm), fromHex(test.salt), fromHex(test.info), test.size))
        if (test.result === 'valid') expect(derive(), `tcId ${test.tcId}`).toBe(test.okm)
        else expect(derive, `tcId ${test.tcId}`).toThrow()
      }
    }
    expect(run).toBe(86)
  })

  it('HMAC-SHA256', () => {
    type Case = { key: string; msg: string; tag: string }
    let run = 0
    for (const group of groupsOf<Case>('hmac_sha256')) {
      for (const test of group.tests) {
        run++
        const tag = crypto.hmac(fromHex(test.key), fromHex(test.msg)).subarray(0, (group.tagSize ?? 0) / 8)
        expect(equalSecrets(tag, fromHex(test.tag)), `tcId ${test.tcId}`).toBe(test.result === 'valid')
      }
    }
    expect(run).toBe(174)
  })
})

const SPKI_ED25519 = fromHex('302a300506032b6570032100')
const verifiers: readonly [string, (signature: Uint8Array, message: Uint8Array, key: Uint8Array) => boolean][] = [
  [
    'node:crypto',
    (signature, message, key) => {
      const der = Buffer.from(concatBytes(SPKI_ED25519, key))
      return verify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)
    },
  ],
  [
    'noble',
    (signature, message, key) => {
      // noble throws on a signature that cannot be parsed; for us that is one way of being wrong.
      try {
        return ed25519.verify(signature, message, key, { zip215: false })
      } catch {
        return false
      }
    },
  ],
]

it.each(verifiers)('Wycheproof Ed25519, strict, through %s', (_, isValid) => {
  let run = 0
  for (const group of groupsOf<{ msg: string; sig: string }>('ed25519')) {
    const key = fromHex(group.publicKey?.pk ?? '')
    for (const test of group.tests) {
      run++
      expect(isValid(fromHex(test.sig), fromHex(test.msg), key), `tcId ${test.tcId}`).toBe(test.result === 'valid')
    }
  }
  expect(run).toBe(151)
})
