import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { openControlLayer, sealControlLayer, unwrapControl, wrapControl } from '../../../src/onion/control.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { COMMAND, decodeControl, encodeControl } from '../../../src/onion/frames.ts'
import { OP } from '../../../src/onion/ops.ts'
import { createOpener, createSealer } from '../../../src/onion/ratchet.ts'

/** Keys of `count` hops as both ends hold them. */
function hops(count: number) {
  return Array.from({ length: count }, () => {
    const [f, b] = [randomBytes(76), randomBytes(76)]
    const copy = (bytes: Uint8Array) => createSecret(Uint8Array.from(bytes))
    return {
      entry: { forward: createSealer(copy(f), 'f', nodeCrypto), backward: createOpener(copy(b), 'b', nodeCrypto) },
      hop: { forward: createOpener(copy(f), 'f', nodeCrypto), backward: createSealer(copy(b), 'b', nodeCrypto) },
    }
  })
}
const { control, controlEarly } = COMMAND

describe.each([1, 2, 3, 8, 12, 13])('control onion over %i hops', (count) => {
  it('reaches each hop, and only that one, with the longest body', () => {
    const chain = hops(count)
    const body = randomBytes(455)
    for (let round = 0; round < 3; round++) {
      for (let goal = 0; goal < count; goal++) {
        const sealers = chain.slice(0, goal + 1).map(({ entry }) => entry.forward)
        let frame = wrapControl(sealers, controlEarly, { op: OP.extend, inner: body }, nodeCrypto)
        for (const [index, { hop }] of chain.slice(0, goal + 1).entries()) {
          const { op, inner } = openControlLayer(hop.forward, 'f', controlEarly, decodeControl(frame))
          expect(op).toBe(index === goal ? OP.extend : OP.forward)
          if (index === goal) expect(toHex(inner)).toBe(toHex(body))
          else frame = encodeControl(controlEarly, inner)
        }
      }
    }
  })

  it('comes back from each hop', () => {
    const chain = hops(count)
    const openers = chain.map(({ entry }) => entry.backward)
    for (let from = 0; from < count; from++) {
      let message = { op: OP.extended as number, inner: randomBytes(208) as Uint8Array }
      const sent = toHex(message.inner)
      for (let i = from; i >= 0; i--) {
        const sealer = chain[i]?.hop.backward
        if (sealer === undefined) break
        const op = i === from ? OP.extended : OP.forward
        message = { op, inner: sealControlLayer(sealer, 'b', control, { op, inner: message.inner }, nodeCrypto) }
      }
      const result = unwrapControl(openers, control, message.inner)
      expect([result.hop, result.message.op, toHex(result.message.inner)]).toEqual([from, OP.extended, sent])
    }
  })
})

describe('a control layer', () => {
  it('fails when one bit, the command or the direction is another', () => {
    const { entry, hop } = hops(1)[0] ?? hops(1)[0] ?? fail()
    const sealed = sealControlLayer(entry.forward, 'f', control, { op: OP.ping, inner: randomBytes(8) }, nodeCrypto)
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const broken = Uint8Array.from(sealed)
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => openControlLayer(hop.forward, 'f', control, broken)).toThrow(/not authentic/)
    }
    expect(() => openControlLayer(hop.forward, 'f', controlEarly, sealed)).toThrow(/not authentic/)
    expect(() => openControlLayer(hop.forward, 'b', control, sealed)).toThrow(/not authentic/)
    expect(() => openControlLayer(hop.forward, 'f', control, sealed.subarray(0, 15))).toThrow(/not authentic/)
    expect(openControlLayer(hop.forward, 'f', control, sealed).op).toBe(OP.ping)
    expect(() => openControlLayer(hop.forward, 'f', control, sealed)).toThrow(/not authentic/)
  })

  it('is refused with a length that does not fit, an unknown op, or when every layer passes on', () => {
    const seal = (plaintext: Uint8Array) => {
      const { entry, hop } = hops(1)[0] ?? fail()
      const out = new Uint8Array(plaintext.length + 16)
      const aad = Buffer.concat([Buffer.from('llm/ctrl/f'), Buffer.of(control), Buffer.alloc(8)])
      entry.forward.seal(aad, plaintext, out, 0)
      return () => openControlLayer(hop.forward, 'f', control, out)
    }
    expect(seal(Uint8Array.of(8, 0, 0))().op).toBe(OP.ping)
    expect(seal(Uint8Array.of(8, 0))).toThrow(/layer/)
    expect(seal(Uint8Array.of(8, 0, 1))).toThrow(/innerLen/)
    expect(seal(Uint8Array.of(8, 0xff, 0xff, 1))).toThrow(/innerLen/)
    expect(seal(Uint8Array.of(8, 0, 0, ...new Uint8Array(16)))).toThrow(/innerLen/)
    expect(seal(Uint8Array.of(1 + Math.max(...Object.values(OP)), 0, 0))).toThrow(/op/)
    const { entry, hop } = hops(1)[0] ?? fail()
    const sealed = sealControlLayer(hop.backward, 'b', control, { op: OP.forward, inner: randomBytes(40) }, nodeCrypto)
    expect(() => unwrapControl([entry.backward], control, sealed)).toThrow(/layers/)
  })
})

function fail(): never {
  throw new Error('no hop')
}
