import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { type CryptoBackend, nodeCrypto } from '../../../src/onion/crypto.ts'
import { createOpener, createSealer, type RatchetDirection, writeNonce } from '../../../src/onion/ratchet.ts'

interface Epoch {
  readonly K: string
  readonly IV: string
  readonly CK: string
}
const path = new URL('../../vectors/handshake.json', import.meta.url)
const vectors = JSON.parse(readFileSync(path, 'utf8')) as {
  derived: Record<'Kf' | 'IVf' | 'Kb' | 'IVb' | 'CK', string>
  ratchet: Record<string, Epoch>
  nonces_forward: Record<string, string>
}
const { derived, ratchet } = vectors
const none = new Uint8Array(0)

/** node:crypto that notes every (key, nonce) it seals under. */
function watched() {
  const seen: { key: string; nonce: string }[] = []
  const crypto: CryptoBackend = {
    ...nodeCrypto,
    aead(key) {
      const text = toHex(key)
      const aead = nodeCrypto.aead(key)
      return {
        ...aead,
        seal(nonce, aad, plaintext, out, offset) {
          seen.push({ key: text, nonce: toHex(nonce) })
          aead.seal(nonce, aad, plaintext, out, offset)
        },
      }
    },
  }
  return { crypto, seen }
}

function sealMany(material: string, direction: RatchetDirection, times: number) {
  const { crypto, seen } = watched()
  const sealer = createSealer(createSecret(fromHex(material)), direction, crypto)
  const out = new Uint8Array(16)
  for (let i = 0; i < times; i++) sealer.seal(none, none, out, 0)
  expect(sealer.n).toBe(times)
  return seen
}

describe('ratchet vectors', () => {
  const input = (ratchet.segment_input as unknown as Epoch) ?? { K: '', IV: '', CK: '' }
  const segment = `${input.K}${'00'.repeat(12)}${input.CK}`
  it.each([
    ['f', 1, derived.Kf + derived.IVf + derived.CK, 'forward_epoch_1'],
    ['f', 2, derived.Kf + derived.IVf + derived.CK, 'forward_epoch_2'],
    ['b', 1, derived.Kb + derived.IVb + derived.CK, 'backward_epoch_1'],
    ['d', 1, segment, 'segment_epoch_1'],
    ['r', 1, segment, 'relay_epoch_1_from_the_same_input'],
  ] as const)('direction %s, epoch %i', (direction, epoch, material, name) => {
    const seen = sealMany(material, direction, epoch * 1_024 + 1)
    const { K, IV } = ratchet[name] as Epoch
    expect(seen[epoch * 1_024 - 1]?.key).not.toBe(K)
    const nonce = new Uint8Array(12)
    writeNonce(fromHex(IV), epoch * 1_024, nonce)
    expect(seen[epoch * 1_024]).toEqual({ key: K, nonce: toHex(nonce) })
  })

  it('nonces', () => {
    for (const [n, expected] of Object.entries(vectors.nonces_forward)) {
      const nonce = new Uint8Array(12)
      writeNonce(fromHex(derived.IVf), Number(n), nonce)
      expect(toHex(nonce)).toBe(expected)
    }
    const nonce = new Uint8Array(12)
    writeNonce(new Uint8Array(12), Number.MAX_SAFE_INTEGER, nonce)
    expect(toHex(nonce)).toBe('00000000001fffffffffffff')
  })

  it('the key material at hand is overwritten by each step', () => {
    const secret = createSecret(fromHex(derived.Kf + derived.IVf + derived.CK))
    const sealer = createSealer(secret, 'f', nodeCrypto)
    for (let i = 0; i <= 1_024; i++) sealer.seal(none, none, new Uint8Array(16), 0)
    const { K, IV, CK } = ratchet.forward_epoch_1 as Epoch
    expect(toHex(secret.reveal())).toBe(K + IV + CK)
    sealer.wipe()
    expect(toHex(secret.reveal())).toBe('00'.repeat(76))
  })
})

describe('sealer and opener', () => {
  const material = () => createSecret(fromHex(derived.Kf + derived.IVf + derived.CK))

  it('stay in step over epochs and never use a pair of key and nonce twice', () => {
    const { crypto, seen } = watched()
    const sealer = createSealer(material(), 'd', crypto)
    const opener = createOpener(material(), 'd', crypto)
    const out = new Uint8Array(21)
    for (let i = 0; i < 3_100; i++) {
      sealer.seal(none, fromHex('0102030405'), out, 0)
      expect(opener.n).toBe(i)
      expect(opener.open(none, out).length).toBe(5)
    }
    expect(new Set(seen.map(({ key, nonce }) => key + nonce)).size).toBe(3_100)
  })

  it('a failure leaves n where it was; replayed, skipped and other directions are failures', () => {
    const sealer = createSealer(material(), 'd', nodeCrypto)
    const opener = createOpener(material(), 'd', nodeCrypto)
    const frames = [0, 1, 2].map(() => {
      const out = new Uint8Array(16)
      sealer.seal(none, none, out, 0)
      return out
    })
    const [first = none, second = none, third = none] = frames
    opener.open(none, first)
    expect(() => opener.open(none, first)).toThrow(/not authentic/)
    expect(() => opener.open(none, third)).toThrow(/not authentic/)
    expect(opener.n).toBe(1)
    opener.open(none, second)
    expect(opener.n).toBe(2)
  })

  it('are of no use after wiping, and print nothing', () => {
    const sealer = createSealer(material(), 'f', nodeCrypto)
    const opener = createOpener(material(), 'f', nodeCrypto)
    expect(inspect([sealer, opener], { depth: null, showHidden: true })).not.toMatch(/#|secret/)
    sealer.wipe()
    opener.wipe()
    expect(() => sealer.seal(none, none, new Uint8Array(16), 0)).toThrow(/ended/)
    expect(() => opener.open(none, new Uint8Array(16))).toThrow(/ended/)
    expect(() => createSealer(createSecret(new Uint8Array(75)), 'f', nodeCrypto)).toThrow(/length/)
  })
})
