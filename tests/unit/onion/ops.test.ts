import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import {
  checkPlainBody,
  decodeExtend,
  decodeFail,
  decodeOk,
  decodeOutSet,
  decodePipeSet,
  decodeRelaySet,
  encodeExtend,
  encodeExtendFail,
  encodeFail,
  encodeOk,
  encodeOutSet,
  encodePipeSet,
  encodeRelaySet,
  newSegment,
  OP,
  opOf,
  type PipeSetBody,
} from '../../../src/onion/ops.ts'

const random = (length: number) => randomBytes(length)
const key = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
const peerId = peerIdFromPublicKey(publicKeyFromRaw(key)).toString()
const create = randomBytes(256)
const v4 = '/ip4/11.0.0.1/udp/4001/quic-v1'

describe('EXTEND', () => {
  it('comes back as it went', () => {
    for (const addrs of [[], [v4], [v4, '/ip6/2a00::1/tcp/1', '/ip4/11.0.0.2/tcp/9', '/ip4/11.0.0.3/tcp/9']]) {
      const body = encodeExtend({ target: { peerId, addrs }, create })
      expect(body.length).toBeLessThanOrEqual(455)
      expect(decodeExtend(body).target).toEqual({ peerId, addrs })
      expect(toHex(decodeExtend(body).create)).toBe(toHex(create))
    }
  })

  it('carries as many addresses as there is room for, the first ones', () => {
    const many = Array.from({ length: 9 }, (_, i) => `/ip4/11.0.0.${i}/tcp/1`)
    expect(decodeExtend(encodeExtend({ target: { peerId, addrs: many }, create })).target.addrs).toEqual(
      many.slice(0, 4),
    )
    const long = Array.from({ length: 4 }, (_, i) => `/dns4/${'a'.repeat(60)}${i}/tcp/1`)
    expect(decodeExtend(encodeExtend({ target: { peerId, addrs: long }, create })).target.addrs).toEqual(
      long.slice(0, 2),
    )
  })

  it('is refused with a wrong length, count, peer id or address', () => {
    const body = Uint8Array.from(encodeExtend({ target: { peerId, addrs: [v4] }, create }))
    const changed = (at: number, value: number) => {
      const copy = Uint8Array.from(body)
      copy[at] = value
      return copy
    }
    expect(() => decodeExtend(changed(38, 5))).toThrow(/nAddr/)
    expect(() => decodeExtend(changed(38, 255))).toThrow(/nAddr/)
    expect(() => decodeExtend(changed(39, 0))).toThrow(/multiaddr length/)
    expect(() => decodeExtend(changed(39, 160))).toThrow(/multiaddr length/)
    expect(() => decodeExtend(changed(40, 255))).toThrow(/multiaddr/)
    expect(() => decodeExtend(changed(0, 0x12))).toThrow(/PeerId/)
    expect(() => decodeExtend(changed(5, 0x21))).toThrow(/PeerId/)
    for (const length of [0, 37, 38, body.length - 1]) {
      expect(() => decodeExtend(body.subarray(0, length)), `${length}`).toThrow(/cut off|too many|not valid/)
    }
    expect(() => decodeExtend(Buffer.concat([body, Buffer.of(0)]))).toThrow(/too many/)
    expect(() => encodeExtend({ target: { peerId, addrs: [] }, create: create.subarray(1) })).toThrow()
  })

  it('is refused with an address that would be another one as text (found by the fuzzer)', () => {
    const body = Uint8Array.from(encodeExtend({ target: { peerId, addrs: ['/dns4/a.example/tcp/1'] }, create }))
    const at = Buffer.from(body).indexOf('a.example')
    body.set(Buffer.from('a/tcp/1/x'), at)
    expect(() => decodeExtend(body)).toThrow(/no multiaddr/)
  })
})

describe('PIPE_SET', () => {
  const base: PipeSetBody = {
    segIn: newSegment(random),
    segOut: newSegment(random),
    hiddenSize: 1_024,
    maxRows: 512,
    span: { start: 3, end: 9 },
    tail: true,
    longRope: false,
  }

  it('comes back as it went', () => {
    for (const [tail, longRope] of [
      [true, false],
      [false, true],
      [true, true],
      [false, false],
    ] as const) {
      const body = encodePipeSet({ ...base, tail, longRope })
      expect(body.length).toBe(180)
      const { segIn, segOut, ...rest } = decodePipeSet(body)
      expect(rest).toEqual({ hiddenSize: 1_024, maxRows: 512, span: base.span, tail, longRope })
      expect(toHex(segIn.id) + toHex(segOut.id)).toBe(toHex(base.segIn.id) + toHex(base.segOut.id))
      expect(toHex(segOut.material.reveal())).toBe(toHex(base.segOut.material.reveal()))
      expect(toHex(segIn.material.reveal())).toBe(toHex(base.segIn.material.reveal()))
    }
  })

  it('is refused with wrong fields', () => {
    expect(() => decodePipeSet(encodePipeSet({ ...base, hiddenSize: 0 }))).toThrow(/hidden/)
    for (const maxRows of [0, 513, 0xffff]) {
      expect(() => decodePipeSet(encodePipeSet({ ...base, maxRows }))).toThrow(/maxRows/)
    }
    expect(() => decodePipeSet(encodePipeSet({ ...base, span: { start: 9, end: 9 } }))).toThrow(/span/)
    const body = encodePipeSet(base)
    expect(() => decodePipeSet(body.subarray(0, 179))).toThrow(/cut off/)
    expect(() => decodePipeSet(Buffer.concat([body, Buffer.of(0)]))).toThrow(/too many/)
    body[179] = 4
    expect(() => decodePipeSet(body)).toThrow(/flags/)
    body[179] = 0
    body[172] = 2
    expect(() => decodePipeSet(body)).toThrow(/dtype/)
  })
})

it('RELAY_SET', () => {
  for (const mode of ['pass', 'peel', 'add'] as const) {
    const material = createSecret(randomBytes(76))
    const decoded = decodeRelaySet(encodeRelaySet({ mode, material }))
    expect([decoded.mode, toHex(decoded.material.reveal())]).toEqual([mode, toHex(material.reveal())])
  }
  const body = encodeRelaySet({ mode: 'add', material: createSecret(randomBytes(76)) })
  expect(() => decodeRelaySet(body.subarray(1))).toThrow(/not valid|cut off/)
  expect(() => decodeRelaySet(Buffer.concat([body, Buffer.of(0)]))).toThrow(/too many/)
  body[0] = 3
  expect(() => decodeRelaySet(body)).toThrow(/mode/)
})

it('OUT_SET', () => {
  const segOut = newSegment(randomBytes)
  const body = encodeOutSet({ fromStep: 2 ** 32 - 1, segOut })
  expect(body).toHaveLength(88)
  const decoded = decodeOutSet(body)
  expect([decoded.fromStep, toHex(decoded.segOut.id)]).toEqual([2 ** 32 - 1, toHex(segOut.id)])
  expect(toHex(decoded.segOut.material.reveal())).toBe(toHex(segOut.material.reveal()))
  expect(() => decodeOutSet(body.subarray(1))).toThrow(/not valid|cut off/)
  expect(() => decodeOutSet(Buffer.concat([body, Buffer.of(0)]))).toThrow(/too many/)
})

it('answers', () => {
  expect(decodeOk(encodeOk(OP.pipeSet))).toBe(OP.pipeSet)
  for (const code of ['KV_FULL', 'CONTEXT_TOO_LONG', 'SPAN', 'BAD_INPUT'] as const) {
    expect(decodeFail(encodeFail(OP.pipeSet, code))).toEqual({ op: OP.pipeSet, code })
  }
  expect(toHex(encodeFail(OP.forward, 'BAD_INPUT'))).toBe('0004')
  for (const status of [0, 5, 255]) expect(() => decodeFail(Uint8Array.of(0, status))).toThrow(/status/)
  for (const length of [0, 1, 3]) expect(() => decodeFail(new Uint8Array(length))).toThrow(/length/)
  for (const length of [0, 2]) expect(() => decodeOk(new Uint8Array(length))).toThrow(/length/)
  for (const op of [15, 255]) expect(() => opOf(op)).toThrow(/op/)
  checkPlainBody(OP.extendFail, encodeExtendFail())
  for (const [op, lengths] of [
    [OP.extended, [0, 207, 209]],
    [OP.extendFail, [0, 2]],
    [OP.ping, [0, 7, 9]],
    [OP.pong, [0, 7, 9]],
    [OP.truncate, [1]],
    [OP.truncated, [1]],
  ] as const) {
    for (const length of lengths) expect(() => checkPlainBody(op, new Uint8Array(length))).toThrow(/length/)
  }
  expect(() => checkPlainBody(OP.extendFail, Uint8Array.of(2))).toThrow(/status/)
})

it('no decoder breaks on random bytes', () => {
  const decoders = [decodeExtend, decodePipeSet, decodeRelaySet, decodeOutSet, decodeOk, decodeFail]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 700 }), fc.constantFrom(...decoders), (bytes, decode) => {
      try {
        decode(bytes)
      } catch (error) {
        expect(error).toMatchObject({ name: 'LlmNodeError', code: expect.stringMatching(/BAD_/) })
      }
    }),
    { numRuns: 2_000 },
  )
})
