import { randomFillSync } from 'node:crypto'
import { LlmNodeError } from '../base/errors.ts'
import {
  CONTROL_BODY_BYTES,
  CONTROL_FRAME_BYTES,
  CONTROL_HEADER_BYTES,
  circuitFrameLength,
  DATA_HEADER_BYTES,
} from '../p2p/circuit-frames.ts'

/** cmd of protocol.md §3. */
export const COMMAND = {
  create: 1,
  created: 2,
  control: 3,
  controlEarly: 4,
  destroy: 5,
  padding: 6,
  data: 16,
} as const

export const MAX_CHUNK_BYTES = 61_440
export const FLAG_FIRST = 1
export const FLAG_LAST = 2

/** The rest of the body is random, so that no length shows. */
export function encodeControl(cmd: number, body: Uint8Array): Uint8Array {
  if (body.length > CONTROL_BODY_BYTES) throw new LlmNodeError('INTERNAL', 'A control message is too long.')
  const frame = new Uint8Array(CONTROL_FRAME_BYTES)
  frame[0] = cmd
  frame[2] = body.length >> 8
  frame[3] = body.length & 0xff
  frame.set(body, CONTROL_HEADER_BYTES)
  randomFillSync(frame, CONTROL_HEADER_BYTES + body.length)
  return frame
}

/** A view of the body. Throws BAD_FRAME. */
export function decodeControl(frame: Uint8Array): Uint8Array {
  if (frame.length !== CONTROL_FRAME_BYTES) throw badFrame('length')
  if (frame[1] !== 0) throw badFrame('flags')
  const length = ((frame[2] ?? 0) << 8) | (frame[3] ?? 0)
  if (length > CONTROL_BODY_BYTES) throw badFrame('len')
  return frame.subarray(CONTROL_HEADER_BYTES, CONTROL_HEADER_BYTES + length)
}

export interface DataFrameHeader {
  readonly flags: number
  readonly n: number
}

/** Writes everything before the ciphertext. */
export function writeDataHeader(frame: Uint8Array, flags: number, n: number): void {
  frame[0] = COMMAND.data
  frame[1] = flags
  writeU32(frame, 2, frame.length - DATA_HEADER_BYTES)
  writeN(frame, 6, n)
}

/** Throws BAD_FRAME unless the frame is whole and its length one that exists. */
export function readDataHeader(frame: Uint8Array): DataFrameHeader {
  if (frame.length < DATA_HEADER_BYTES || circuitFrameLength(frame) !== frame.length) throw badFrame('length')
  const flags = frame[1] ?? 0
  if (flags > (FLAG_FIRST | FLAG_LAST)) throw badFrame('flags')
  const high = readU32(frame, 6)
  if (high > 0x1f_ffff) throw badFrame('n')
  return { flags, n: high * 2 ** 32 + readU32(frame, 10) }
}

/** n8, big-endian. */
export function writeN(out: Uint8Array, offset: number, n: number): void {
  writeU32(out, offset, Math.floor(n / 2 ** 32))
  writeU32(out, offset + 4, n % 2 ** 32)
}

export function writeU32(out: Uint8Array, offset: number, value: number): void {
  out[offset] = value >>> 24
  out[offset + 1] = value >>> 16
  out[offset + 2] = value >>> 8
  out[offset + 3] = value
}

function readU32(bytes: Uint8Array, offset: number): number {
  const top = bytes[offset] ?? 0
  const rest = ((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0)
  return top * 2 ** 24 + rest
}

export function badFrame(field: string): LlmNodeError {
  return new LlmNodeError('BAD_FRAME', `A frame of the circuit has a wrong ${field}.`, { meta: { field } })
}
