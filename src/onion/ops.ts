import { multiaddr } from '@multiformats/multiaddr'
import { concatBytes, createByteReader, createByteWriter } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { onionLimits } from '../base/limits.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import type { Span } from '../base/span.ts'
import { multiaddrFromBytes } from '../p2p/multiaddr-bytes.ts'
import { PEER_ID_BYTES, peerIdFromBytes, peerIdToBytes } from '../p2p/peer-id-bytes.ts'
import { badFrame } from './frames.ts'
import { CREATE_BYTES, CREATED_BYTES } from './handshake-messages.ts'
import type { PeerTarget } from './ports.ts'
import { MATERIAL_BYTES } from './ratchet.ts'

/** Ops of the control onion (protocol.md §3). */
export const OP = {
  forward: 0,
  extend: 1,
  extended: 2,
  extendFail: 3,
  pipeSet: 4,
  relaySet: 5,
  ok: 6,
  fail: 7,
  ping: 8,
  pong: 9,
  truncate: 10,
  truncated: 11,
  drop: 12,
  outSet: 13,
  answerSet: 14,
} as const
export type Op = (typeof OP)[keyof typeof OP]

const KNOWN_OPS: ReadonlySet<number> = new Set(Object.values(OP))

export function opOf(value: number): Op {
  if (!KNOWN_OPS.has(value)) throw badFrame('op')
  return value as Op
}

/** Codes that a FAIL can carry, in the order of their status numbers from 1. */
const FAIL_CODES = ['KV_FULL', 'CONTEXT_TOO_LONG', 'SPAN', 'BAD_INPUT'] as const
export type FailCode = (typeof FAIL_CODES)[number]

export function isFailCode(code: string): code is FailCode {
  return (FAIL_CODES as readonly string[]).includes(code)
}

const SEGMENT_ID_BYTES = 8
export const PING_BYTES = 8
const DTYPE_F32 = 1
const FLAG_TAIL = 1
const FLAG_LONG_ROPE = 2
const EXTEND_FAILED = 1

export interface ExtendBody {
  readonly target: PeerTarget
  /** ID | B | X | C1, 256 bytes. */
  readonly create: Uint8Array
}

/** Leaves out addresses beyond the 4 and the 160 bytes there is room for: callers list the best first. */
export function encodeExtend({ target, create }: ExtendBody): Uint8Array {
  if (create.length !== CREATE_BYTES) throw new LlmNodeError('INTERNAL', 'A CREATE has the wrong length.')
  const addrs: Uint8Array[] = []
  let bytes = 0
  for (const text of target.addrs) {
    const addr = multiaddr(text).bytes
    if (addrs.length === onionLimits.extendAddrs || bytes + 1 + addr.length > onionLimits.extendAddrBytes) continue
    addrs.push(addr)
    bytes += 1 + addr.length
  }
  const writer = createByteWriter().bytes(peerIdToBytes(target.peerId)).u8(addrs.length)
  for (const addr of addrs) writer.u8(addr.length).bytes(addr)
  return writer.bytes(create).finish()
}

/** Throws BAD_RECORD. */
export function decodeExtend(body: Uint8Array): ExtendBody {
  const reader = createByteReader(body, 'EXTEND')
  const peerIdBytes = reader.bytes(PEER_ID_BYTES, 'peerId')
  const nAddr = reader.u8('nAddr')
  if (nAddr > onionLimits.extendAddrs) throw badBody('EXTEND', 'nAddr')
  const addrs: string[] = []
  let bytes = 0
  for (let i = 0; i < nAddr; i++) {
    const length = reader.u8('multiaddr length')
    bytes += 1 + length
    if (length === 0 || bytes > onionLimits.extendAddrBytes) throw badBody('EXTEND', 'multiaddr length')
    addrs.push(multiaddrFromBytes(reader.bytes(length, 'multiaddr')))
  }
  const create = reader.bytes(CREATE_BYTES, 'CREATE')
  reader.end()
  return { target: { peerId: peerIdFromBytes(peerIdBytes), addrs }, create }
}

export interface SegmentKeys {
  /** 8 bytes. */
  readonly id: Uint8Array
  /** K32 | IV12 | CK32. */
  readonly material: Secret
}

export interface PipeSetBody {
  readonly segIn: SegmentKeys
  readonly segOut: SegmentKeys
  readonly hiddenSize: number
  readonly maxRows: number
  readonly span: Span
  /** The last compute hop: it answers with the wanted rows only. */
  readonly tail: boolean
  readonly longRope: boolean
}

export function encodePipeSet(body: PipeSetBody): Uint8Array {
  return createByteWriter()
    .bytes(body.segIn.id)
    .bytes(body.segIn.material.reveal())
    .bytes(body.segOut.id)
    .bytes(body.segOut.material.reveal())
    .u32(body.hiddenSize)
    .u8(DTYPE_F32)
    .u16(body.maxRows)
    .u16(body.span.start)
    .u16(body.span.end)
    .u8((body.tail ? FLAG_TAIL : 0) | (body.longRope ? FLAG_LONG_ROPE : 0))
    .finish()
}

/** Throws BAD_RECORD. */
export function decodePipeSet(bytes: Uint8Array): PipeSetBody {
  const reader = createByteReader(bytes, 'PIPE_SET')
  const segment = (): SegmentKeys => ({
    id: reader.bytes(SEGMENT_ID_BYTES, 'segment id'),
    material: createSecret(reader.bytes(MATERIAL_BYTES, 'segment key')),
  })
  const segIn = segment()
  const segOut = segment()
  const hiddenSize = reader.u32('hidden')
  if (reader.u8('dtype') !== DTYPE_F32) throw badBody('PIPE_SET', 'dtype')
  const maxRows = reader.u16('maxRows')
  const span = { start: reader.u16('start'), end: reader.u16('end') }
  const flags = reader.u8('flags')
  reader.end()
  if (hiddenSize === 0) throw badBody('PIPE_SET', 'hidden')
  if (maxRows === 0 || maxRows > onionLimits.maxRows) throw badBody('PIPE_SET', 'maxRows')
  if (span.end <= span.start) throw badBody('PIPE_SET', 'span')
  if (flags > (FLAG_TAIL | FLAG_LONG_ROPE)) throw badBody('PIPE_SET', 'flags')
  return {
    segIn,
    segOut,
    hiddenSize,
    maxRows,
    span,
    tail: (flags & FLAG_TAIL) !== 0,
    longRope: (flags & FLAG_LONG_ROPE) !== 0,
  }
}

export interface OutSetBody {
  /** Answers to frames before this step go nowhere: they were on their way when the ring broke. */
  readonly fromStep: number
  readonly segOut: SegmentKeys
}

export function encodeOutSet({ fromStep, segOut }: OutSetBody): Uint8Array {
  return createByteWriter().u32(fromStep).bytes(segOut.id).bytes(segOut.material.reveal()).finish()
}

/** Throws BAD_RECORD. */
export function decodeOutSet(bytes: Uint8Array): OutSetBody {
  const reader = createByteReader(bytes, 'OUT_SET')
  const fromStep = reader.u32('step')
  const id = reader.bytes(SEGMENT_ID_BYTES, 'segment id')
  const material = createSecret(reader.bytes(MATERIAL_BYTES, 'segment key'))
  reader.end()
  return { fromStep, segOut: { id, material } }
}

/** The two segments of an answering hop: requests come in on one, answers go out on the other. */
export interface AnswerSetBody {
  readonly segIn: SegmentKeys
  readonly segOut: SegmentKeys
}

export function encodeAnswerSet({ segIn, segOut }: AnswerSetBody): Uint8Array {
  const writer = createByteWriter().bytes(segIn.id).bytes(segIn.material.reveal())
  return writer.bytes(segOut.id).bytes(segOut.material.reveal()).finish()
}

/** Throws BAD_RECORD. */
export function decodeAnswerSet(bytes: Uint8Array): AnswerSetBody {
  const reader = createByteReader(bytes, 'ANSWER_SET')
  const segment = (): SegmentKeys => ({
    id: reader.bytes(SEGMENT_ID_BYTES, 'segment id'),
    material: createSecret(reader.bytes(MATERIAL_BYTES, 'segment key')),
  })
  const body = { segIn: segment(), segOut: segment() }
  reader.end()
  return body
}

const RELAY_MODES = ['pass', 'peel', 'add'] as const
export type RelayMode = (typeof RELAY_MODES)[number]

export interface RelaySetBody {
  readonly mode: RelayMode
  /** K32 | IV12 | CK32; unused with mode pass. */
  readonly material: Secret
}

export function encodeRelaySet(body: RelaySetBody): Uint8Array {
  return createByteWriter().u8(RELAY_MODES.indexOf(body.mode)).bytes(body.material.reveal()).finish()
}

/** Throws BAD_RECORD. */
export function decodeRelaySet(bytes: Uint8Array): RelaySetBody {
  const reader = createByteReader(bytes, 'RELAY_SET')
  const mode = RELAY_MODES[reader.u8('mode')]
  if (mode === undefined) throw badBody('RELAY_SET', 'mode')
  const material = createSecret(reader.bytes(MATERIAL_BYTES, 'key'))
  reader.end()
  return { mode, material }
}

export const encodeOk = (op: Op): Uint8Array => Uint8Array.of(op)

/** The op that was done. Throws BAD_RECORD. */
export function decodeOk(bytes: Uint8Array): Op {
  expectLength('OK', bytes, 1)
  return opOf(bytes[0] ?? 0)
}

/** `op` FORWARD (0): not an answer, but a failure of the data. */
export const encodeFail = (op: Op, code: FailCode): Uint8Array => Uint8Array.of(op, FAIL_CODES.indexOf(code) + 1)

/** Throws BAD_RECORD. */
export function decodeFail(bytes: Uint8Array): { op: Op; code: FailCode } {
  expectLength('FAIL', bytes, 2)
  const code = FAIL_CODES[(bytes[1] ?? 0) - 1]
  if (code === undefined) throw badBody('FAIL', 'status')
  return { op: opOf(bytes[0] ?? 0), code }
}

export const encodeExtendFail = (): Uint8Array => Uint8Array.of(EXTEND_FAILED)

/** Throws BAD_RECORD unless `inner` is a body that `op` may have. For ops whose body has no fields. */
export function checkPlainBody(op: Op, inner: Uint8Array): void {
  if (op === OP.extended) expectLength('EXTENDED', inner, CREATED_BYTES)
  else if (op === OP.extendFail) {
    expectLength('EXTEND_FAIL', inner, 1)
    if (inner[0] !== EXTEND_FAILED) throw badBody('EXTEND_FAIL', 'status')
  } else if (op === OP.ping || op === OP.pong) expectLength('PING', inner, PING_BYTES)
  else if (op === OP.truncate || op === OP.truncated) expectLength('TRUNCATE', inner, 0)
}

/** A fresh random segment. */
export function newSegment(random: (length: number) => Uint8Array): SegmentKeys {
  return { id: random(SEGMENT_ID_BYTES), material: createSecret(random(MATERIAL_BYTES)) }
}

/** Both ends of a segment need the same keys, and each wipes its own copy. */
export function copySegment(segment: SegmentKeys): SegmentKeys {
  return { id: segment.id, material: createSecret(concatBytes(segment.material.reveal())) }
}

function expectLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw badBody(what, 'length')
}

function badBody(what: string, field: string): LlmNodeError {
  return new LlmNodeError('BAD_RECORD', `${what}: ${field} is not valid.`, { meta: { field } })
}
