import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { type ContactRecord, encodeContactRecord, verifyContactRecord } from '../../../src/p2p/contact-record.ts'
import { peerIdFromBytes, peerIdToBytes } from '../../../src/p2p/peer-id-bytes.ts'
import { createSeenRecords } from '../../../src/p2p/seen-records.ts'
import { createSequenceCounter } from '../../../src/p2p/sequence.ts'

const nowMs = 1_800_000_000_000
const HOUR = 3_600_000
const network = 'test'
const { secretKey, publicKey } = ed25519.keygen()
const sign = (message: Uint8Array) => ed25519.sign(message, secretKey)
const peerId = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
const base: ContactRecord = {
  flags: 0,
  addressKey: publicKey,
  sequence: nowMs,
  issuedMs: nowMs,
  expiresMs: nowMs + 3 * HOUR,
  onionKey: x25519.keygen().publicKey,
  onionKeyEndsMs: nowMs + 100 * HOUR,
  peerId,
  addrs: ['/ip4/192.168.1.7/tcp/5561', '/ip6/fd00::7/udp/5561/quic-v1', '/dns4/example.org/tcp/1'],
  familyKeys: [ed25519.keygen().publicKey],
}
const encode = (change: Partial<ContactRecord> = {}, by = { network, sign }) =>
  encodeContactRecord({ ...base, ...change }, by)
const verify = (bytes: Uint8Array, change: { nowMs?: number; network?: string } = {}) =>
  verifyContactRecord(bytes, { network, nowMs, ...change })

function problemOf(bytes: Uint8Array, change: { nowMs?: number; network?: string } = {}): string {
  try {
    verify(bytes, change)
  } catch (error) {
    if (isLlmNodeError(error, 'BAD_RECORD')) return error.message
    throw error
  }
  throw new Error('accepted')
}

/** Changes the unsigned part and signs again, as a peer that holds its key can. */
function resigned(change: (bytes: Uint8Array) => Uint8Array | undefined): Uint8Array {
  const bytes = encode().slice(0, -64)
  const changed = change(bytes) ?? bytes
  const label = concatBytes(utf8('llm contact v1'), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 4), utf8(network))
  return concatBytes(changed, sign(concatBytes(label, changed)))
}

describe('contact record', () => {
  it('comes back as it was', () => {
    expect(verify(encode())).toEqual(base)
    expect(verify(resigned(() => undefined))).toEqual(base)
    const bare = { addrs: [], familyKeys: [] }
    expect(verify(encode(bare))).toEqual({ ...base, ...bare })
  })

  it('fits its limit with everything in it', () => {
    const long = `/dns4/${'a'.repeat(150)}/tcp/1`
    const bytes = encode({
      addrs: Array.from({ length: 6 }, (_, i) => `${long}${i}`),
      familyKeys: Array.from({ length: 4 }, () => publicKey),
    })
    expect(bytes.length).toBeLessThanOrEqual(1_536)
    expect(verify(bytes).addrs).toHaveLength(6)
    expect(() => encode({ addrs: Array(7).fill('/ip4/1.2.3.4/tcp/1') })).toThrow(/at most 6/)
    expect(() => encode({ familyKeys: Array(5).fill(publicKey) })).toThrow(/at most 6/)
    expect(() => encode({ addrs: [`/dns4/${'a'.repeat(170)}/tcp/1`] })).toThrow(/too long/)
  })

  it('is refused for every flipped bit', () => {
    const bytes = encode()
    for (let bit = 0; bit < bytes.length * 8; bit += 7) {
      const changed = bytes.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(problemOf(changed)).not.toBe('')
    }
  })

  it('is refused for every other length', () => {
    const bytes = encode()
    for (let length = 0; length < bytes.length; length += 5) expect(problemOf(bytes.subarray(0, length))).not.toBe('')
    expect(problemOf(concatBytes(bytes, Uint8Array.of(0)))).not.toBe('')
    expect(problemOf(resigned((part) => concatBytes(part, Uint8Array.of(0))))).toMatch(/1 bytes too many/)
    expect(problemOf(resigned((part) => concatBytes(part, new Uint8Array(1_600))))).toMatch(/has \d+ bytes/)
  })

  it('counts only in its network, and for the address that was asked for', () => {
    expect(problemOf(encode(), { network: 'other' })).toMatch(/not signed by its address in this network/)
    expect(problemOf(encode({}, { network: 'other', sign }))).toMatch(/not signed/)
    const addressKey = ed25519.keygen().publicKey
    expect(() => verifyContactRecord(encode(), { network, nowMs, addressKey })).toThrow(/another address/)
  })

  it('has times that make sense, give or take ten minutes', () => {
    expect(problemOf(encode(), { nowMs: nowMs + 3 * HOUR + 600_000 })).toMatch(/has expired/)
    expect(verify(encode(), { nowMs: nowMs + 3 * HOUR + 599_999 })).toEqual(base)
    expect(problemOf(encode(), { nowMs: nowMs - 600_001 })).toMatch(/in the future/)
    expect(verify(encode(), { nowMs: nowMs - 600_000 })).toEqual(base)
    expect(problemOf(encode({ expiresMs: nowMs }))).toMatch(/before it was issued/)
    expect(problemOf(encode({ expiresMs: nowMs + 12 * HOUR + 1 }))).toMatch(/longer than 12 hours/)
    expect(verify(encode({ expiresMs: nowMs + 12 * HOUR }))).toBeDefined()
    expect(problemOf(encode({ onionKeyEndsMs: nowMs - 600_000 }))).toMatch(/onion key that has ended/)
  })

  it('holds only real keys and addresses', () => {
    expect(problemOf(encode({ onionKey: new Uint8Array(32) }))).toMatch(/low-order/)
    expect(problemOf(encode({ familyKeys: [new Uint8Array(32)] }))).toMatch(/no valid point/)
    const at = (offset: number, value: number) => (bytes: Uint8Array) => {
      bytes[offset] = value
      return undefined
    }
    expect(problemOf(resigned(at(0, 2)))).toMatch(/has version 2/)
    expect(problemOf(resigned(at(34, 255)))).toMatch(/impossible sequence/)
    expect(problemOf(resigned(at(98, 1)))).toMatch(/PeerId/)
    expect(problemOf(resigned(at(136, 7)))).toMatch(/has 7 addresses/)
    expect(problemOf(resigned(at(137, 0)))).toMatch(/address of 0 bytes/)
    expect(problemOf(resigned(at(137, 161)))).toMatch(/address of 161 bytes/)
    expect(problemOf(resigned(at(138, 255)))).toMatch(/no multiaddr/)
  })

  it('throws BAD_RECORD and nothing else on any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 700 }), (bytes) => problemOf(bytes) !== ''))
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 200, maxLength: 250 }), fc.nat(200), (noise, offset) => {
        problemOf(resigned((bytes) => concatBytes(bytes.subarray(0, offset), noise)))
      }),
      { numRuns: 60 },
    )
  })
})

describe('PeerId bytes', () => {
  it('go both ways, for Ed25519 only', async () => {
    expect(peerIdFromBytes(peerIdToBytes(peerId))).toBe(peerId)
    const other = peerIdFromPrivateKey(await generateKeyPair('secp256k1')).toString()
    expect(() => peerIdToBytes(other)).toThrow(/not the PeerId of an Ed25519 key/)
    expect(() => peerIdFromBytes(new Uint8Array(38))).toThrow(/Ed25519/)
  })
})

describe('seen records', () => {
  const key = publicKey
  const remember = (seen: ReturnType<typeof createSeenRecords>, sequence: number, byte: number, addressKey = key) =>
    seen.remember({ addressKey, sequence, bytes: Uint8Array.of(byte), forgetMs: nowMs + sequence })

  it('tell new from same, old and contradictory', () => {
    const seen = createSeenRecords()
    expect(seen.compare(key, 5, Uint8Array.of(1))).toBe('new')
    remember(seen, 5, 1)
    expect(seen.compare(key, 5, Uint8Array.of(1))).toBe('same')
    expect(seen.compare(key, 5, Uint8Array.of(2))).toBe('conflict')
    expect(seen.compare(key, 4, Uint8Array.of(1))).toBe('old')
    expect(seen.compare(key, 6, Uint8Array.of(1))).toBe('new')
  })

  it('survive a dump, forget in time and hold their cap', () => {
    const keys = Array.from({ length: 5 }, (_, i) => new Uint8Array(32).fill(i))
    const seen = createSeenRecords([], 3)
    for (const [i, addressKey] of keys.entries()) remember(seen, i + 1, 1, addressKey)
    expect(seen.size).toBe(3)
    const again = createSeenRecords(seen.dump(), 3)
    expect(again.compare(keys[4] ?? key, 4, Uint8Array.of(1))).toBe('old')
    expect(again.compare(keys[0] ?? key, 1, Uint8Array.of(1))).toBe('new')
    again.expire(nowMs + 4)
    expect(again.size).toBe(1)
  })
})

describe('sequence counter', () => {
  it('rises across restarts and clocks set back, on disk first', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'llm-sequence-'))
    try {
      const file = join(folder, 'sequence.json')
      const first = await createSequenceCounter(file)
      expect(await Promise.all([first.next(1_000), first.next(1_000), first.next(900)])).toEqual([1_000, 1_001, 1_002])
      expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({ last: 1_002 })
      expect(await (await createSequenceCounter(file)).next(5)).toBe(1_003)
      await writeFile(file, '{"last":-1}')
      await expect(createSequenceCounter(file)).rejects.toMatchObject({ code: 'HOME_UNUSABLE' })
      expect(await (await createSequenceCounter(undefined)).next(7)).toBe(7)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
