import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes } from '../../../src/base/bytes.ts'
import { coverageLimits } from '../../../src/base/limits.ts'
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type GossipAnswer,
  type GossipRequest,
} from '../../../src/coverage/gossip-messages.ts'

const TAG = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
const id = fc.uint8Array({ minLength: 8, maxLength: 8 }).map((bytes) => Buffer.from(bytes).toString('hex'))
const u16 = fc.nat(0xffff)
const u32 = fc.nat(0xffff_ffff)
const reach = fc.record({
  position: u32,
  radii: fc.uniqueArray(fc.tuple(u16, u32), { selector: ([group]) => group, maxLength: 8 }).map((all) => new Map(all)),
})
const items = fc.array(
  fc.record({
    kind: fc.constantFrom('advert', 'heartbeat', 'tombstone', 'contact'),
    ageMs: u32,
    bytes: fc.uint8Array({ maxLength: 80 }),
  }),
  { maxLength: 6 },
)
const lines = fc.array(fc.record({ advertId: id, index: u16 }), { maxLength: 6 })
const wish = fc.boolean()

/** The part of a message that says whom its sender wants to know of. */
const reachBytes = (...groups: readonly number[]) =>
  concatBytes(
    Uint8Array.of(0, 0, 0, 7, groups.length >> 8, groups.length & 255),
    ...groups.map((group) => Uint8Array.of(group >> 8, group & 255, 0, 0, 0, 9)),
  )
const digest = (...groups: readonly number[]) =>
  concatBytes(TAG, Uint8Array.of(1, 0), reachBytes(...groups), Uint8Array.of(0, 0))

describe('messages of the exchange of adverts', () => {
  it('come back as they went', () => {
    const request: fc.Arbitrary<GossipRequest> = fc.oneof(
      fc.record({ op: fc.constant('digest' as const), wish, reach, lines }),
      fc.record({ op: fc.constant('news' as const), wish, items, lines }),
    )
    fc.assert(
      fc.property(request, (sent) => {
        expect(decodeRequest(encodeRequest(TAG, sent), TAG)).toEqual(sent)
      }),
    )
    const ids = fc.array(id, { maxLength: 6 })
    const answer: fc.Arbitrary<GossipAnswer> = fc.record({ wish, reach, items, wants: ids, lacks: ids })
    fc.assert(
      fc.property(answer, (sent) => {
        expect(decodeAnswer(encodeAnswer(sent))).toEqual(sent)
      }),
    )
  })

  it('have one encoding: no group twice (found by the fuzzer), no unknown wish', () => {
    expect(decodeRequest(digest(5, 6), TAG)).toMatchObject({ reach: { position: 7 } })
    expect(() => decodeRequest(digest(5, 5), TAG)).toThrow(/twice/)
    expect(() => decodeRequest(concatBytes(TAG, Uint8Array.of(1, 2)), TAG)).toThrow(/wish/)
  })

  it('are refused when a list is longer than allowed, before it is read', () => {
    const list = (length: number) => Uint8Array.of(length >> 8, length & 255)
    const news = (length: number) => concatBytes(TAG, Uint8Array.of(2, 0), list(length))
    expect(() => decodeRequest(news(coverageLimits.messageItems + 1), TAG)).toThrow(/allowed/)
    expect(() => decodeRequest(news(0xffff), TAG)).toThrow(/allowed/)
    expect(() => decodeRequest(news(coverageLimits.messageItems), TAG)).toThrow(/cut off/)
    expect(() => decodeRequest(concatBytes(TAG, Uint8Array.of(9, 0)), TAG)).toThrow(/op 9/)
    expect(() => decodeRequest(digest(), Uint8Array.from(TAG).reverse())).toThrow(/another network/)
  })
})
