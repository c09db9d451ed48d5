import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { verifyAdvert, verifyTombstone } from '../../../src/coverage/advert.ts'
import { createChain, decodeHeartbeat, encodeHeartbeat, provesLife } from '../../../src/coverage/heartbeat.ts'
import { createTestNode, network, serving } from './advert-helpers.ts'

const node = createTestNode()

function problemOf(check: () => unknown): string {
  try {
    check()
  } catch (error) {
    if (isLlmNodeError(error, 'BAD_RECORD')) return error.message
    throw error
  }
  throw new Error('accepted')
}
const advertProblem = (bytes: Uint8Array) => problemOf(() => verifyAdvert(bytes, { network }))

function resigned(change: (bytes: Uint8Array) => Uint8Array | undefined): Uint8Array {
  const bytes = node.advert().bytes.slice(0, -64)
  const changed = change(bytes) ?? bytes
  const label = concatBytes(utf8('llm advert v1'), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 4), utf8(network))
  return concatBytes(changed, node.sign(concatBytes(label, changed)))
}

describe('advert', () => {
  it('comes back as it was', () => {
    const { advert, bytes } = node.advert()
    expect(verifyAdvert(bytes, { network })).toEqual(advert)
    const bare = { serving: [], neighbours: [], relay: true, version: '' }
    expect(verifyAdvert(node.advert(bare).bytes, { network })).toMatchObject(bare)
    expect(
      verifyAdvert(
        resigned(() => undefined),
        { network },
      ).serving,
    ).toEqual([serving])
  })

  it('fits 1 KiB with 160 layers, and refuses what does not fit', () => {
    const wide = (layers: number) => ({
      ...serving,
      span: { start: 0, end: layers },
      layerDigests: new Uint8Array(4 * layers),
    })
    const neighbours = Array.from({ length: 5 }, () => ({ nodeId: '0011223344556677', rttMs: 3 }))
    const { bytes } = node.advert({ serving: [wide(160)], neighbours, version: 'v'.repeat(40) })
    expect(bytes.length).toBeLessThanOrEqual(1_024)
    expect(verifyAdvert(bytes, { network }).serving[0]?.layerDigests).toHaveLength(640)
    expect(() => node.advert({ serving: [wide(161)] })).toThrow(/161 layers/)
    expect(() => node.advert({ serving: [wide(100), wide(100)] })).toThrow(/would have \d+ bytes/)
    expect(() => node.advert({ serving: Array(5).fill(serving) })).toThrow(/at most 4 models/)
    expect(() => node.advert({ serving: [{ ...serving, layerDigests: new Uint8Array(15) }] })).toThrow(/15 bytes for 4/)
  })

  it('is refused for every flipped bit and every other length', () => {
    const { bytes } = node.advert()
    for (let bit = 0; bit < bytes.length * 8; bit += 11) {
      const changed = bytes.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(advertProblem(changed)).not.toBe('')
    }
    for (let length = 0; length < bytes.length; length += 9)
      expect(advertProblem(bytes.subarray(0, length))).not.toBe('')
    expect(advertProblem(resigned((part) => concatBytes(part, Uint8Array.of(0))))).toMatch(/1 bytes too many/)
    expect(advertProblem(new Uint8Array(1_025))).toMatch(/has 1025 bytes/)
  })

  it('counts only in its network', () => {
    expect(advertProblem(node.advert({}, 'other').bytes)).toMatch(/in this network/)
  })

  it('holds only sensible values', () => {
    const at = (offset: number, value: number) => (bytes: Uint8Array) => {
      bytes[offset] = value
      return undefined
    }
    expect(advertProblem(resigned(at(0, 9)))).toMatch(/version 9/)
    expect(advertProblem(resigned(at(1, 2)))).toMatch(/unknown flags/)
    expect(advertProblem(resigned(at(34, 1)))).toMatch(/PeerId/)
    expect(advertProblem(resigned(at(72, 255)))).toMatch(/impossible sequence/)
    expect(advertProblem(resigned(at(80, 5)))).toMatch(/unknown reachability/)
    expect(advertProblem(resigned(at(81, 5)))).toMatch(/has 5 as models/)
    expect(advertProblem(resigned(at(117, 4)))).toMatch(/span of 0 layers/)
    expect(advertProblem(resigned(at(116, 255)))).toMatch(/span of \d+ layers/)
    expect(advertProblem(resigned(at(118, 9)))).toMatch(/has 9 as recipe/)
    expect(advertProblem(resigned(at(119, 0x1b)))).toMatch(/recipe that is no text/)
    expect(advertProblem(resigned(at(155, 3)))).toMatch(/unknown state/)
  })

  it('throws BAD_RECORD and nothing else on any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 1_100 }), (bytes) => advertProblem(bytes) !== ''))
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 300, maxLength: 400 }), fc.nat(200), (noise, offset) => {
        advertProblem(resigned((bytes) => concatBytes(bytes.subarray(0, offset), noise)))
      }),
      { numRuns: 60 },
    )
  })
})

describe('tombstone', () => {
  it('is signed, and nothing else is one', () => {
    const bytes = node.tombstone(7)
    expect(verifyTombstone(bytes, { network })).toEqual({ addressKey: node.addressKey, sequence: 7 })
    expect(problemOf(() => verifyTombstone(bytes, { network: 'other' }))).toMatch(/not signed/)
    const changed = bytes.slice()
    changed[40] = 8
    expect(problemOf(() => verifyTombstone(changed, { network }))).toMatch(/not signed/)
    expect(problemOf(() => verifyTombstone(bytes.subarray(1), { network }))).toMatch(/no tombstone/)
    expect(problemOf(() => verifyTombstone(node.advert().bytes, { network }))).toMatch(/no tombstone/)
  })
})

describe('heartbeat', () => {
  const owner = { addressKey: node.addressKey, sequence: 5 }
  const chain = createChain(owner, new Uint8Array(16).fill(7))
  const link = (index: number) => chain[index] ?? new Uint8Array(16)

  it('proves life from the end and from any link before', () => {
    expect(chain).toHaveLength(65)
    for (const index of [1, 2, 64])
      expect(provesLife(owner, { index: 0, link: link(0) }, { index, link: link(index) })).toBe(true)
    expect(provesLife(owner, { index: 3, link: link(3) }, { index: 9, link: link(9) })).toBe(true)
  })

  it('cannot be repeated, guessed, shifted or taken from another chain', () => {
    const from3 = { index: 3, link: link(3) }
    expect(provesLife(owner, from3, { index: 3, link: link(3) })).toBe(false)
    expect(provesLife(owner, from3, { index: 2, link: link(2) })).toBe(false)
    expect(provesLife(owner, from3, { index: 5, link: link(4) })).toBe(false)
    expect(provesLife(owner, from3, { index: 4, link: new Uint8Array(16) })).toBe(false)
    expect(provesLife({ ...owner, sequence: 6 }, from3, { index: 4, link: link(4) })).toBe(false)
    expect(provesLife(owner, { index: 0, link: link(0) }, { index: 65, link: link(64) })).toBe(false)
  })

  it('has 26 bytes', () => {
    const bytes = encodeHeartbeat({ advertId: new Uint8Array(8).fill(1), index: 2, link: link(2) })
    expect(bytes).toHaveLength(26)
    expect(decodeHeartbeat(bytes)).toEqual({
      advertId: new Uint8Array(8).fill(1),
      index: 2,
      link: Uint8Array.from(link(2)),
    })
    expect(problemOf(() => decodeHeartbeat(bytes.subarray(1)))).toMatch(/26 bytes, not 25/)
  })
})
