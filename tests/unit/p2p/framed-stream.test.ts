import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes, equalBytes } from '../../../src/base/bytes.ts'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { CIRCUIT_HEADER_BYTES, circuitFrameLength } from '../../../src/p2p/circuit-frames.ts'
import { createFrameAssembler } from '../../../src/p2p/framed-stream.ts'

const MAX = 300_000
function lengthPrefixed() {
  return createFrameAssembler({
    headerBytes: 4,
    frameLength(header) {
      const length = new DataView(header.buffer, header.byteOffset, 4).getUint32(0)
      if (length > MAX) throw new LlmNodeError('BAD_FRAME', 'too long')
      return 4 + length
    },
  })
}
function frameOf(length: number, fill = 7): Uint8Array {
  const frame = new Uint8Array(4 + length).fill(fill)
  new DataView(frame.buffer).setUint32(0, length)
  return frame
}
function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = []
  for (let offset = 0, i = 0; offset < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    chunks.push(bytes.slice(offset, offset + size))
    offset += size
  }
  return chunks
}

describe('frame assembler', () => {
  it('gives back the same frames however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 }),
        (lengths, sizes) => {
          const frames = lengths.map((length, i) => frameOf(length, i))
          const got: Uint8Array[] = []
          const assembler = lengthPrefixed()
          for (const chunk of cut(concatBytes(...frames), sizes)) {
            assembler.push(chunk, (frame) => {
              got.push(frame.slice())
              return true
            })
          }
          expect(got).toEqual(frames)
          expect(assembler.partial).toBe(false)
        },
      ),
    )
  })

  it('joins a large frame from many pieces', () => {
    const frame = frameOf(MAX)
    crypto.getRandomValues(frame.subarray(4, 60_000))
    const assembler = lengthPrefixed()
    let got: Uint8Array | undefined
    for (const chunk of cut(frame, [4_096, 1, 65_519])) {
      expect(got).toBeUndefined()
      assembler.push(chunk, (whole) => {
        got = whole
        return true
      })
    }
    expect(got !== undefined && equalBytes(got, frame)).toBe(true)
  })

  it('hands a whole frame over without copying it', () => {
    const chunk = concatBytes(frameOf(10), frameOf(20))
    lengthPrefixed().push(chunk, (frame) => {
      expect(frame.buffer).toBe(chunk.buffer)
      return true
    })
  })

  it('checks the header before it keeps anything of the body', () => {
    const header = frameOf(0)
    new DataView(header.buffer).setUint32(0, 2 ** 32 - 1)
    expect(() => lengthPrefixed().push(header, () => true)).toThrow(/too long/)
    const assembler = lengthPrefixed()
    assembler.push(header.subarray(0, 3), () => true)
    expect(assembler.partial).toBe(true)
    expect(() => assembler.push(header.subarray(3), () => true)).toThrow(/too long/)
  })

  it('does not allocate what a header promises', () => {
    const before = process.memoryUsage().arrayBuffers
    const kept = Array.from({ length: 200 }, () => {
      const assembler = lengthPrefixed()
      const start = frameOf(0)
      new DataView(start.buffer).setUint32(0, MAX)
      assembler.push(start, () => true)
      return assembler
    })
    expect(kept.every((assembler) => assembler.partial)).toBe(true)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200 * 70_000)
  })

  it('stops in the middle of a chunk when the consumer has enough', () => {
    let calls = 0
    lengthPrefixed().push(concatBytes(frameOf(1), frameOf(1), frameOf(1)), () => {
      calls++
      return false
    })
    expect(calls).toBe(1)
  })

  it('refuses frames shorter than their header', () => {
    const assembler = createFrameAssembler({ headerBytes: 4, frameLength: () => 3 })
    expect(() => assembler.push(new Uint8Array(4), () => true)).toThrow(/shorter than its header/)
  })
})

describe('circuit frames', () => {
  const header = (command: number, length: number, wide: boolean): Uint8Array => {
    const bytes = new Uint8Array(CIRCUIT_HEADER_BYTES)
    const view = new DataView(bytes.buffer)
    view.setUint8(0, command)
    if (wide) view.setUint32(2, length)
    else view.setUint16(2, length)
    return bytes
  }

  it('are 1,024 bytes, or a data class with its tags', () => {
    for (let command = 1; command <= 6; command++) expect(circuitFrameLength(header(command, 1_020, false))).toBe(1_024)
    expect(circuitFrameLength(header(16, 5 * 1_024 + 16, true))).toBe(14 + 5 * 1_024 + 16)
    expect(circuitFrameLength(header(16, 60 * 1_024 + 80, true))).toBe(14 + 60 * 1_024 + 80)
  })

  it.each([0, 7, 15, 17, 255])('have no command %i', (command) => {
    expect(() => circuitFrameLength(header(command, 0, false))).toThrow(/no frame command/)
  })

  it('have no other length', () => {
    expect(() => circuitFrameLength(header(1, 1_021, false))).toThrow(/cannot carry 1021/)
    for (const length of [0, 15, 16, 1_024, 1_039, 1_041, 1_024 + 96, 61_440, 61_440 + 96, 2 ** 31, 2 ** 32 - 1]) {
      expect(() => circuitFrameLength(header(16, length, true))).toThrow(/cannot carry/)
    }
  })
})
