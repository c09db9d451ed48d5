import { readFileSync } from 'node:fs'
import { ed25519 } from '@noble/curves/ed25519.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '../../../src/base/bytes.ts'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import {
  decodeAddress,
  encodeAddress,
  formatAddressUri,
  isAddress,
  parseAddressUri,
  safetyNumber,
} from '../../../src/p2p/address.ts'

interface Vectors {
  valid: { pubkey: string; address: string; safetyNumber: string }[]
}
const vectors = JSON.parse(readFileSync(new URL('../../vectors/llm-address.json', import.meta.url), 'utf8')) as Vectors
const good = vectors.valid[0]?.address ?? ''

function messageOf(text: string): string {
  try {
    decodeAddress(text)
  } catch (error) {
    if (isLlmNodeError(error, 'BAD_ADDRESS')) return error.message
    throw error
  }
  throw new Error(`accepted ${text}`)
}

/** An address of arbitrary bytes with a right checksum, to reach the checks behind it. */
function addressOfBytes(bytes: Uint8Array): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'
  let bits = BigInt(`0x${toHex(bytes)}`)
  let text = ''
  for (let i = 0; i < 56; i++) {
    text = alphabet[Number(bits & 31n)] + text
    bits >>= 5n
  }
  return `${text}.llm`
}

describe('.llm address', () => {
  it.each(vectors.valid)('matches the vector $address', ({ pubkey, address, safetyNumber: number }) => {
    expect(encodeAddress(fromHex(pubkey))).toBe(address)
    expect(toHex(decodeAddress(address))).toBe(pubkey)
    expect(safetyNumber(fromHex(pubkey))).toBe(number)
  })

  it('forgives spaces and upper case', () => {
    expect(decodeAddress(` ${good.toUpperCase()}\n`)).toEqual(decodeAddress(good))
  })

  it('says what is wrong', () => {
    expect(messageOf('')).toMatch(/does not end in \.llm/)
    expect(messageOf(good.slice(1))).toMatch(/has 55 characters before \.llm instead of 56/)
    expect(messageOf(`a${good}`)).toMatch(/has 57 characters/)
    expect(messageOf(`0${good.slice(1)}`)).toMatch(/has "0" at position 1/)
    expect(messageOf(`${good[0] === 'a' ? 'b' : 'a'}${good.slice(1)}`)).toMatch(/wrong checksum/)
    expect(messageOf(good.replace(/.\.llm$/, 'c.llm'))).toMatch(/version 2/)
  })

  it('refuses keys that are no points of prime order', async () => {
    const { sha3_256 } = await import('@noble/hashes/sha3.js')
    const encode = (key: Uint8Array) => {
      const sum = sha3_256(Uint8Array.from([...Buffer.from('.llm checksum'), ...key, 1])).subarray(0, 2)
      return addressOfBytes(Uint8Array.from([...key, ...sum, 1]))
    }
    const base = ed25519.Point.BASE
    expect(decodeAddress(encode(base.toBytes()))).toEqual(base.toBytes())
    const torsion = ed25519.Point.fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05')
    const identity = fromHex(`01${'00'.repeat(31)}`)
    const nonCanonical = fromHex(`ee${'ff'.repeat(30)}7f`)
    for (const key of [
      torsion.toBytes(),
      identity,
      base.add(torsion).toBytes(),
      nonCanonical,
      fromHex('02'.padEnd(64, '0')),
    ]) {
      expect(messageOf(encode(key))).toMatch(/holds no valid key/)
      expect(() => encodeAddress(key)).toThrow(/holds no valid key/)
    }
    expect(() => encodeAddress(new Uint8Array(31))).toThrow(/31 bytes/)
  })

  it('survives the round trip for random keys, and any single change is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(55), fc.nat(30), (seed, position, shift) => {
        const key = ed25519.getPublicKey(seed)
        const address = encodeAddress(key)
        expect(address).toMatch(/^[a-z2-7]{56}\.llm$/)
        expect(decodeAddress(address)).toEqual(key)
        const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'
        const other = alphabet[(alphabet.indexOf(address[position] ?? '') + 1 + shift) % 32]
        expect(isAddress(address.slice(0, position) + other + address.slice(position + 1))).toBe(false)
      }),
      { numRuns: 60, seed: 1 },
    )
  })

  it('throws BAD_ADDRESS and nothing else on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
        expect(messageOf(`${text}.llm`)).not.toBe('')
        expect(messageOf(text)).not.toBe('')
      }),
    )
  })
})

describe('llm:// texts', () => {
  const hints = ['/ip4/192.168.1.7/tcp/5561', '/ip4/192.168.1.7/udp/5561/quic-v1']

  it('carry hints', () => {
    const key = decodeAddress(good)
    expect(parseAddressUri(good)).toEqual({ addressKey: key, address: good, addrs: [] })
    expect(parseAddressUri(`llm://${good}`).addrs).toEqual([])
    expect(parseAddressUri(`llm://${good}?a=${hints[0]}&a=${hints[1]}&later=1`).addrs).toEqual(hints)
    expect(parseAddressUri(formatAddressUri(key, hints))).toEqual({ addressKey: key, address: good, addrs: hints })
  })

  it('are refused with bad or too many hints', () => {
    expect(() => parseAddressUri(`llm://${good}?a=hello`)).toThrow(/no multiaddr: "hello"/)
    const seven = Array.from({ length: 7 }, (_, i) => `a=/ip4/10.0.0.${i}/tcp/1`).join('&')
    expect(() => parseAddressUri(`llm://${good}?${seven}`)).toThrow(/more than 6 hints/)
    expect(() => parseAddressUri(`llm://${good}?a=${'x'.repeat(5000)}`)).toThrow(/longer than/)
  })
})
