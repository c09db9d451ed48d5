import { concatBytes } from '../../../src/base/bytes.ts'
import { isLlmNodeError, type LlmNodeError } from '../../../src/base/errors.ts'
import {
  COMMAND,
  decodeControl,
  encodeControl,
  FLAG_FIRST,
  readDataHeader,
  writeDataHeader,
} from '../../../src/onion/frames.ts'
import {
  CIRCUIT_HEADER_BYTES,
  CONTROL_FRAME_BYTES,
  circuitFrameLength,
  DATA_HEADER_BYTES,
} from '../../../src/p2p/circuit-frames.ts'
import { createFrameAssembler } from '../../../src/p2p/framed-stream.ts'
import { type FuzzTarget, promise, resized, sameBytes, unlessRefused } from '../target.ts'

function dataFrame(length: number, flags: number, n: number): Uint8Array {
  const frame = new Uint8Array(DATA_HEADER_BYTES + length).fill(9)
  writeDataHeader(frame, flags, n)
  return frame
}

interface Reading {
  readonly frames: Uint8Array[]
  readonly error: string | undefined
}

/** A stream that arrives in pieces of these sizes, one after the other and again. */
function read(bytes: Uint8Array, sizes: readonly number[]): Reading {
  const assembler = createFrameAssembler({ headerBytes: CIRCUIT_HEADER_BYTES, frameLength: circuitFrameLength })
  const frames: Uint8Array[] = []
  try {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const size = sizes[i % sizes.length] ?? 1
      assembler.push(bytes.slice(at, at + size), (frame) => frames.push(Uint8Array.from(frame)) > 0)
      at += size
    }
  } catch (error) {
    if (!isLlmNodeError(error, 'BAD_FRAME')) throw error
    return { frames, error: (error as LlmNodeError).message }
  }
  return { frames, error: undefined }
}

function checkFrame(frame: Uint8Array): void {
  promise(circuitFrameLength(frame) === frame.length, 'a frame has the length that its header says')
  if (frame[0] === COMMAND.data) {
    const header = unlessRefused(['BAD_FRAME'], () => readDataHeader(frame))
    if (header === undefined) return
    const again = Uint8Array.from(frame)
    writeDataHeader(again, header.flags, header.n)
    promise(Number.isSafeInteger(header.n) && sameBytes(again, frame), 'a data header has one encoding')
    return
  }
  const body = unlessRefused(['BAD_FRAME'], () => decodeControl(frame))
  if (body === undefined) return
  const again = encodeControl(frame[0] ?? 0, body)
  const used = CONTROL_FRAME_BYTES - 1_020 + body.length
  promise(sameBytes(again.subarray(0, used), frame.subarray(0, used)), 'a control header has one encoding')
}

/** Input: three sizes of pieces, one byte each, then the bytes of a circuit stream. */
export const frameTarget: FuzzTarget = {
  name: 'frame',
  maxBytes: 8_192,
  // A header may promise 60 KiB, and each piece of it starts a buffer of 64 KiB.
  maxAllocated: (length) => 8 * 65_536 + 64 * length,
  seeds: () => [
    concatBytes(Uint8Array.of(255, 7, 1), encodeControl(COMMAND.create, new Uint8Array(256).fill(3))),
    concatBytes(
      Uint8Array.of(100, 100, 100),
      dataFrame(1_040, FLAG_FIRST, 1),
      encodeControl(COMMAND.destroy, new Uint8Array(0)),
      dataFrame(1_056, 3, 2 ** 33),
    ),
    concatBytes(Uint8Array.of(1, 1, 1), dataFrame(61_456, 0, 7).subarray(0, 64)),
  ],
  run(input) {
    const bytes = input.subarray(3)
    const sizes = [1, 2, 3].map((_, i) => (input[i] ?? 0) * 8 + 1)
    const cut = read(bytes, sizes)
    const whole = read(bytes, [Math.max(1, bytes.length)])
    promise(cut.error === whole.error, 'how a stream is cut does not change whether it is refused')
    promise(cut.frames.length === whole.frames.length, 'how a stream is cut does not change its frames')
    for (const [i, frame] of whole.frames.entries()) {
      promise(sameBytes(frame, cut.frames[i] ?? new Uint8Array(0)), 'how a stream is cut does not change a frame')
      checkFrame(frame)
    }
    // The same bytes as one data frame of the length that they claim.
    const length = unlessRefused(['BAD_FRAME'], () => circuitFrameLength(resized(bytes, CIRCUIT_HEADER_BYTES)))
    if (length !== undefined) checkFrame(resized(bytes, length))
    unlessRefused(['BAD_FRAME'], () => readDataHeader(bytes))
    unlessRefused(['BAD_FRAME'], () => decodeControl(bytes))
  },
}
