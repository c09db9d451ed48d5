import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { COMMAND, decodeControl, encodeControl, readDataHeader, writeDataHeader } from '../../../src/onion/frames.ts'
import { CHUNK_CLASSES, circuitFrameLength } from '../../../src/p2p/circuit-frames.ts'

const header = (ctLen: number, flags = 0) => {
  const prefix = Buffer.from([COMMAND.data, flags, 0, 0, 0, 0])
  prefix.writeUInt32BE(ctLen, 2)
  return prefix
}

describe('the link and the circuit agree', () => {
  it('on the length of control frames', () => {
    for (let cmd = 1; cmd <= 6; cmd++) expect(circuitFrameLength(encodeControl(cmd, new Uint8Array(9)))).toBe(1_024)
  })

  it('on data frames: the classes with up to four relay layers and nothing else', () => {
    expect(CHUNK_CLASSES).toEqual([1_024, 5_120, 9_216, 17_408, 33_792, 61_440])
    const legal = new Set(CHUNK_CLASSES.flatMap((size) => [1, 2, 3, 4, 5].map((tags) => size + 16 * tags)))
    const accepted: number[] = []
    for (let length = 0; length < 63_000; length++) {
      try {
        if (circuitFrameLength(header(length)) === 14 + length) accepted.push(length)
      } catch (error) {
        if (!isLlmNodeError(error, 'BAD_FRAME')) throw error
      }
    }
    expect(new Set(accepted)).toEqual(legal)
    for (const length of [2 ** 31, 2 ** 32 - 1])
      expect(() => circuitFrameLength(header(length))).toThrow(/cannot carry/)
  })

  it('on commands', () => {
    const prefix = new Uint8Array(6)
    for (const cmd of [0, 7, 15, 17, 255]) {
      prefix[0] = cmd
      expect(() => circuitFrameLength(prefix)).toThrow(/command/)
    }
  })
})

describe('control frames', () => {
  it('carry a body of up to 1,020 bytes, the rest random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1_020 }), (body) => {
        const frame = encodeControl(COMMAND.control, body)
        expect(frame.length).toBe(1_024)
        expect(decodeControl(frame)).toEqual(body)
      }),
    )
    expect(() => encodeControl(COMMAND.control, new Uint8Array(1_021))).toThrow(/too long/)
    const [a, b] = [
      encodeControl(COMMAND.control, new Uint8Array(4)),
      encodeControl(COMMAND.control, new Uint8Array(4)),
    ]
    expect(Buffer.compare(a, b)).not.toBe(0)
  })

  it('are refused with a wrong length or flags', () => {
    const frame = encodeControl(COMMAND.control, new Uint8Array(4))
    expect(() => decodeControl(frame.subarray(1))).toThrow(/length/)
    for (const length of [1_021, 1_022, 0xffff]) {
      const wrong = Uint8Array.from(frame)
      wrong[2] = length >> 8
      wrong[3] = length & 0xff
      expect(() => decodeControl(wrong)).toThrow(/len/)
    }
    frame[1] = 1
    expect(() => decodeControl(frame)).toThrow(/flags/)
  })
})

describe('data frames', () => {
  it.each([0, 1, 1_023, 1_024, 1_025, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER])('carry n = %i', (n) => {
    const frame = new Uint8Array(14 + 1_040)
    writeDataHeader(frame, 3, n)
    expect(readDataHeader(frame)).toEqual({ flags: 3, n })
  })

  it('are refused when the length is another than the header says', () => {
    const frame = new Uint8Array(14 + 1_040)
    writeDataHeader(frame, 3, 7)
    expect(() => readDataHeader(frame.subarray(0, 1_053))).toThrow(/length/)
    expect(() => readDataHeader(frame.subarray(0, 13))).toThrow(/length/)
    for (const flags of [4, 8, 128]) {
      frame[1] = flags
      expect(() => readDataHeader(frame)).toThrow(/flags/)
    }
    frame[1] = 3
    frame[6] = 0x80
    expect(() => readDataHeader(frame)).toThrow(/wrong n/)
  })
})
