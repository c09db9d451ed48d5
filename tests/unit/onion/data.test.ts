import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes, toHex } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import {
  allFinite,
  bytesOf,
  createRelayLayer,
  createSegmentOpener,
  createSegmentSealer,
  type DataFrame,
  type DataGrant,
  type DataHeader,
  frameWireBytes,
  KIND,
  rowsOf,
} from '../../../src/onion/data.ts'
import { writeDataHeader } from '../../../src/onion/frames.ts'
import { createOpener, createSealer } from '../../../src/onion/ratchet.ts'
import { CHUNK_CLASSES } from '../../../src/p2p/circuit-frames.ts'

const secret = (bytes: Uint8Array) => createSecret(Uint8Array.from(bytes))
const grant: DataGrant = {
  kinds: new Set([KIND.forward, KIND.result, KIND.cancel, KIND.padding]),
  hiddenSize: 64,
  maxRows: 512,
  maxBytes: 300_000,
}

function segment(change: { grant?: DataGrant; openId?: Uint8Array; layers?: Uint8Array[] } = {}) {
  const [id, material] = [randomBytes(8), randomBytes(76)]
  const layers = change.layers ?? []
  const sealer = createSegmentSealer(
    { id, material: secret(material) },
    layers.map((layer) => createSealer(secret(layer), 'r', nodeCrypto)),
    nodeCrypto,
  )
  const opener = createSegmentOpener(
    { id: change.openId ?? id, material: secret(material) },
    layers.map((layer) => createOpener(secret(layer), 'r', nodeCrypto)).reverse(),
    change.grant ?? grant,
    nodeCrypto,
  )
  return { sealer, opener }
}

const forward = (nTokens: number, change: Partial<DataHeader> = {}): DataHeader => ({
  kind: KIND.forward,
  step: 7,
  pos: 3,
  nTokens,
  want: 1,
  hiddenSize: 64,
  totalBytes: nTokens * 256,
  ...change,
})
const padding = (totalBytes: number): DataHeader =>
  forward(0, { kind: KIND.padding, pos: 0, want: 0, hiddenSize: 0, totalBytes })

function framesOf(sealer: ReturnType<typeof segment>['sealer'], header: DataHeader, body: Uint8Array) {
  const frames: Uint8Array[] = []
  sealer.seal(header, body, (frame) => frames.push(frame))
  return frames
}

function pushAll(opener: ReturnType<typeof segment>['opener'], frames: readonly Uint8Array[]): DataFrame | undefined {
  let result: DataFrame | undefined
  for (const frame of frames) {
    expect(result).toBeUndefined()
    result = opener.push(frame)
  }
  return result
}

describe('a segment', () => {
  it('carries frames of any size, in the smallest class, without any length showing', () => {
    const edges = CHUNK_CLASSES.flatMap((size) => [size - 23, size - 22, size - 21])
    for (const total of [0, 1, ...edges, 61_418, 61_419, 122_858, 122_859, 250_000]) {
      const { sealer, opener } = segment()
      const body = randomBytes(total)
      const frames = framesOf(sealer, padding(total), body)
      for (const frame of frames) expect(CHUNK_CLASSES).toContain(frame.length - 30)
      expect(frames.reduce((sum, frame) => sum + frame.length, 0)).toBe(frameWireBytes(total, 0))
      const whole = pushAll(opener, frames)
      expect(whole?.header).toEqual(padding(total))
      expect(Buffer.compare(whole?.body ?? Buffer.of(1), body)).toBe(0)
      expect(opener.pendingBytes).toBe(0)
    }
    expect(frameWireBytes(61_418, 0)).toBe(61_470)
    expect(frameWireBytes(61_419, 2)).toBe(61_502 + 1_024 + 62)
  })

  it('carries rows without changing a bit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.nat(), fc.nat(), (nTokens, step, pos) => {
        const { sealer, opener } = segment()
        const rows = new Float32Array(nTokens * 64).map(() => Math.random() - 0.5)
        const header = forward(nTokens, { step, pos, want: nTokens })
        const whole = pushAll(opener, framesOf(sealer, header, bytesOf(rows)))
        expect(whole?.header).toEqual(header)
        expect(whole && toHex(bytesOf(rowsOf(whole)))).toBe(toHex(bytesOf(rows)))
      }),
      { numRuns: 30 },
    )
  })

  it('carries many frames one after the other, over an epoch', () => {
    const { sealer, opener } = segment()
    const body = randomBytes(256)
    for (let i = 0; i < 1_100; i++) {
      const whole = pushAll(opener, framesOf(sealer, forward(1, { step: i }), body))
      expect(whole?.header.step).toBe(i)
    }
  })

  it('ends with a flipped bit, a replay, a gap, or the frame of another segment', () => {
    const { sealer, opener } = segment()
    const [first] = framesOf(sealer, forward(1), randomBytes(256))
    const [second] = framesOf(sealer, forward(1), randomBytes(256))
    if (first === undefined || second === undefined) throw new Error('no frame')
    for (let bit = 0; bit < first.length * 8; bit += bit < 14 * 8 ? 1 : 37) {
      const broken = Uint8Array.from(first)
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => opener.push(broken), `bit ${bit}`).toThrow(/not authentic|wrong|cannot carry|no frame/)
    }
    expect(() => opener.push(second)).toThrow(/wrong n/)
    expect(opener.push(first)?.header.kind).toBe(KIND.forward)
    expect(() => opener.push(first)).toThrow(/wrong n/)
    const other = segment({ openId: randomBytes(8) })
    const [frame] = framesOf(other.sealer, forward(1), randomBytes(256))
    expect(() => other.opener.push(frame ?? first)).toThrow(/not authentic/)
  })

  it.each<[string, DataHeader, RegExp]>([
    ['an unknown kind', forward(1, { kind: 9 as 1 }), /kind/],
    ['a kind that was not granted', forward(0, { kind: KIND.answer, want: 0, hiddenSize: 0, totalBytes: 5 }), /kind/],
    ['another row size', forward(1, { hiddenSize: 65, totalBytes: 260 }), /hidden/],
    ['no row', forward(0, { want: 0 }), /nTok/],
    ['a row too many', forward(513), /nTok/],
    ['more rows wanted than sent', forward(2, { want: 3 }), /want/],
    ['a result with other rows than wanted', forward(2, { kind: KIND.result, want: 1 }), /want/],
    ['a body one byte short', forward(2, { totalBytes: 511 }), /totalBytes/],
    ['a body one byte long', forward(2, { totalBytes: 513 }), /totalBytes/],
    ['a huge body', forward(2, { totalBytes: 2 ** 32 - 1 }), /totalBytes/],
    ['a huge body without rows', padding(2 ** 32 - 1), /totalBytes/],
    ['padding one byte above the grant', padding(300_001), /totalBytes/],
    ['a cancel with a body', forward(0, { kind: KIND.cancel, want: 0, hiddenSize: 0, totalBytes: 1 }), /totalBytes/],
    ['padding with rows', forward(1, { kind: KIND.padding }), /nTok/],
  ])('refuses %s before it allocates', (_, header, message) => {
    const { sealer, opener } = segment()
    const frames = framesOf(sealer, header, new Uint8Array(Math.min(header.totalBytes, 1_000)))
    expect(() => opener.push(frames[0] ?? new Uint8Array(0))).toThrow(message)
    expect(opener.pendingBytes).toBe(0)
  })

  it('refuses chunks that do not fit their frame', () => {
    // The body that is sealed and the length that is announced disagree: later chunks are missing or too many.
    const short = segment()
    const [only] = framesOf(short.sealer, padding(100_000), randomBytes(61_418))
    expect(() => short.opener.push(only ?? new Uint8Array(0))).toThrow(/flags/)
    const long = segment()
    const [first] = framesOf(long.sealer, padding(61_418), randomBytes(100_000))
    expect(() => long.opener.push(first ?? new Uint8Array(0))).toThrow(/flags/)
    const wide = segment()
    const [bigger] = framesOf(wide.sealer, padding(100), randomBytes(2_000))
    expect(() => wide.opener.push(bigger ?? new Uint8Array(0))).toThrow(/class/)
    const dirty = segment()
    const [tail] = framesOf(dirty.sealer, padding(100), randomBytes(101))
    expect(() => dirty.opener.push(tail ?? new Uint8Array(0))).toThrow(/padding/)
    const twice = segment()
    const [begun] = framesOf(twice.sealer, padding(100_000), randomBytes(100_000))
    twice.opener.push(begun ?? new Uint8Array(0))
    expect(twice.opener.pendingBytes).toBe(100_000)
    const third = segment()
    const frames = framesOf(third.sealer, padding(100_000), randomBytes(100_000))
    expect(() => third.opener.push(frames[1] ?? new Uint8Array(0))).toThrow(/wrong n/)
  })
})

it('no plaintext breaks the opener, and none makes it hold more than the grant', () => {
  const header = fc.record({
    kind: fc.constantFrom(0, 1, 2, 4, 5, 6, 255),
    small: fc.uint8Array({ minLength: 21, maxLength: 21 }),
    fit: fc.boolean(),
    size: fc.constantFrom(...CHUNK_CLASSES),
    flags: fc.integer({ min: 0, max: 3 }),
  })
  fc.assert(
    fc.property(fc.array(header, { minLength: 1, maxLength: 4 }), (chunks) => {
      const [id, material] = [randomBytes(8), randomBytes(76)]
      const sealer = createSealer(secret(material), 'd', nodeCrypto)
      const opener = createSegmentOpener({ id, material: secret(material) }, [], grant, nodeCrypto)
      for (const { kind, small, fit, size, flags } of chunks) {
        const plaintext = Buffer.alloc(size)
        plaintext[0] = kind
        plaintext.set(small, 1)
        if (fit) {
          // A header that the checks on rows let through, so that the chunks behind it are looked at, too.
          plaintext.writeUInt16BE(1 + (small[0] ?? 0), 9)
          plaintext.writeUInt16BE(1, 11)
          plaintext[13] = 1
          plaintext.writeUInt32BE(64, 14)
          plaintext.writeUInt32BE((1 + (small[0] ?? 0)) * 256, 18)
        }
        const frame = new Uint8Array(14 + size + 16)
        const aad = Buffer.alloc(29)
        aad.write('llm/data')
        aad.set(id, 8)
        aad[16] = flags
        aad.writeUInt32BE(size + 16, 17)
        aad.writeUInt32BE(sealer.n, 25)
        writeDataHeader(frame, flags, sealer.n)
        sealer.seal(aad, plaintext, frame, 14)
        try {
          opener.push(frame)
        } catch (error) {
          expect(error).toMatchObject({ code: 'BAD_FRAME' })
          break
        }
        expect(opener.pendingBytes).toBeLessThanOrEqual(grant.maxBytes)
      }
    }),
    { numRuns: 500 },
  )
})

describe('relay layers', () => {
  it('are added by the entry and peeled on the way, and the other way round', () => {
    const [near, far] = [randomBytes(76), randomBytes(76)]
    const [id, material] = [randomBytes(8), randomBytes(76)]
    // Entry → relay `near` → relay `far` → compute hop: the innermost layer is the far relay's.
    const sealer = createSegmentSealer(
      { id, material: secret(material) },
      [createSealer(secret(far), 'r', nodeCrypto), createSealer(secret(near), 'r', nodeCrypto)],
      nodeCrypto,
    )
    const relays = [
      createRelayLayer('peel', secret(near), nodeCrypto),
      createRelayLayer('peel', secret(far), nodeCrypto),
    ]
    const opener = createSegmentOpener({ id, material: secret(material) }, [], grant, nodeCrypto)
    for (let i = 0; i < 1_030; i++) {
      const [frame] = framesOf(sealer, forward(1, { step: i }), randomBytes(256))
      const arrived = relays.reduce((current, relay) => relay.pass(current), frame ?? new Uint8Array(0))
      expect(opener.push(arrived)?.header.step).toBe(i)
    }
    const back = segment({ layers: [] })
    const adding = [near, far].map((key) => createRelayLayer('add', secret(key), nodeCrypto))
    const [frame] = framesOf(back.sealer, forward(1), randomBytes(256))
    const layered = adding.reduce((current, relay) => relay.pass(current), frame ?? new Uint8Array(0))
    expect(layered.length).toBe((frame?.length ?? 0) + 32)
    const undo = [far, near].map((key) => createRelayLayer('peel', secret(key), nodeCrypto))
    expect(toHex(undo.reduce((current, relay) => relay.pass(current), layered))).toBe(toHex(frame ?? new Uint8Array(0)))
  })

  it('in mode pass leave the frame as it is but count', () => {
    const { sealer } = segment()
    const relay = createRelayLayer('pass', secret(new Uint8Array(76)), nodeCrypto)
    const [a] = framesOf(sealer, forward(1), randomBytes(256))
    const [b] = framesOf(sealer, forward(1), randomBytes(256))
    if (a === undefined || b === undefined) throw new Error('no frame')
    expect(relay.pass(a)).toBe(a)
    expect(() => relay.pass(a)).toThrow(/wrong n/)
    expect(relay.pass(b)).toBe(b)
  })

  it('refuse flipped bits, replays, and frames that would grow or shrink beyond the classes', () => {
    const key = randomBytes(76)
    const { sealer } = segment({ layers: [key] })
    const [frame] = framesOf(sealer, forward(1), randomBytes(256))
    if (frame === undefined) throw new Error('no frame')
    const relay = createRelayLayer('peel', secret(key), nodeCrypto)
    for (let at = 14; at < frame.length; at += 101) {
      const broken = Uint8Array.from(frame)
      broken[at] = (broken[at] ?? 0) ^ 1
      expect(() => relay.pass(broken)).toThrow(/not authentic/)
    }
    const inner = relay.pass(frame)
    expect(() => relay.pass(frame)).toThrow(/wrong n/)
    expect(() => createRelayLayer('peel', secret(key), nodeCrypto).pass(inner)).toThrow(/not authentic/)
    let grown = inner
    for (let i = 0; i < 4; i++) grown = createRelayLayer('add', secret(key), nodeCrypto).pass(grown)
    expect(() => createRelayLayer('add', secret(key), nodeCrypto).pass(grown)).toThrow(/cannot carry/)
  })
})

it('allFinite sees every kind of broken number', () => {
  const rows = new Float32Array(100).fill(3e38)
  expect(allFinite(rows)).toBe(true)
  expect(allFinite(new Float32Array(0))).toBe(true)
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const at of [0, 50, 99]) {
      const broken = Float32Array.from(rows)
      broken[at] = value
      expect(allFinite(broken)).toBe(false)
    }
  }
})

it('wiping leaves nothing of a frame that was not whole', () => {
  const { sealer, opener } = segment()
  const frames = framesOf(sealer, padding(100_000), concatBytes(randomBytes(100_000)))
  opener.push(frames[0] ?? new Uint8Array(0))
  opener.wipe()
  expect(opener.pendingBytes).toBe(0)
  expect(() => opener.push(frames[1] ?? new Uint8Array(0))).toThrow()
})
