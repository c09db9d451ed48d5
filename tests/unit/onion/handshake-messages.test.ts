import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ClientMessage,
  decodeClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  encodeServerMessage,
  refusal,
  type ServerMessage,
} from '../../../src/onion/handshake-messages.ts'

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 1, max: 0xffff_ffff })
const compute: ClientMessage = {
  role: 'compute',
  modelId: new Uint8Array(32).fill(1),
  span: { start: 4, end: 8 },
  maxContext: 4096,
  numericsClass: new Uint8Array(32).fill(2),
  lifetimeS: 3600,
}

describe('CM', () => {
  it('comes back as it went', () => {
    const message = fc.record({
      role: fc.constant('compute' as const),
      modelId: bytes32,
      span: fc.tuple(u16, u16).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) })),
      maxContext: u32,
      numericsClass: bytes32,
      lifetimeS: u32,
    })
    fc.assert(
      fc.property(message, (value) => {
        fc.pre(value.span.start < value.span.end)
        const bytes = encodeClientMessage(value)
        expect(bytes.length).toBe(144)
        expect(decodeClientMessage(bytes)).toEqual(value)
      }),
    )
    for (const role of ['relay', 'answer'] as const) {
      const plain = { role, modelId: new Uint8Array(32), span: { start: 0, end: 0 }, maxContext: 0 }
      const value = { ...plain, numericsClass: new Uint8Array(32), lifetimeS: 60 }
      expect(decodeClientMessage(encodeClientMessage(value))).toEqual(value)
      expect(() => decodeClientMessage(encodeClientMessage({ ...compute, role }))).toThrow(/unused/)
    }
  })

  it('is refused with a wrong field', () => {
    const wrong: [number, number, RegExp][] = [
      [0, 2, /version/],
      [1, 3, /role/],
      [3, 1, /flags/],
      [44, 2, /dtype/],
      [81, 1, /padding/],
      [143, 1, /padding/],
    ]
    for (const [offset, value, message] of wrong) {
      const bytes = encodeClientMessage(compute)
      bytes[offset] = value
      expect(() => decodeClientMessage(bytes)).toThrow(message)
    }
    expect(() => decodeClientMessage(encodeClientMessage({ ...compute, span: { start: 8, end: 8 } }))).toThrow(/span/)
    expect(() => decodeClientMessage(encodeClientMessage({ ...compute, maxContext: 0 }))).toThrow(/maxCtx/)
    expect(() => decodeClientMessage(encodeClientMessage({ ...compute, lifetimeS: 0 }))).toThrow(/lifetimeS/)
    for (const length of [0, 143, 145]) expect(() => decodeClientMessage(new Uint8Array(length))).toThrow(/length/)
  })
})

describe('SM', () => {
  it('comes back as it went', () => {
    const message: fc.Arbitrary<ServerMessage> = fc.record({
      status: fc.constantFrom('OK', 'BUSY', 'REJECT'),
      numericsClass: bytes32,
      maxContext: u32,
      idleS: u16,
      lifeS: u16,
      queueBytes: u32,
    })
    fc.assert(
      fc.property(message, (value) => {
        const bytes = encodeServerMessage(value)
        expect(bytes.length).toBe(128)
        expect(decodeServerMessage(bytes)).toEqual(value)
      }),
    )
  })

  it('is refused with a wrong field', () => {
    for (const [offset, value, message] of [
      [0, 3, /status/],
      [2, 1, /flags/],
      [49, 1, /padding/],
      [127, 1, /padding/],
    ] as const) {
      const bytes = encodeServerMessage(refusal('BUSY'))
      bytes[offset] = value
      expect(() => decodeServerMessage(bytes)).toThrow(message)
    }
    for (const length of [0, 127, 129]) expect(() => decodeServerMessage(new Uint8Array(length))).toThrow(/length/)
  })
})
