import { concatBytes, createByteReader, createByteWriter } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Span } from '../base/span.ts'
import { isZero, TAG_BYTES } from './crypto.ts'

/** Lengths of the padded messages and of the frames' bodies around them (protocol.md §2). */
const CLIENT_MESSAGE_BYTES = 144
const SERVER_MESSAGE_BYTES = 128
export const CREATE_BYTES = 3 * 32 + CLIENT_MESSAGE_BYTES + TAG_BYTES
export const CREATED_BYTES = 2 * 32 + SERVER_MESSAGE_BYTES + TAG_BYTES

const VERSION = 1
const DTYPE_F32 = 1
const ROLES = ['relay', 'compute', 'answer'] as const
const STATUSES = ['OK', 'BUSY', 'REJECT'] as const

export type HopRole = (typeof ROLES)[number]
export type CreateStatus = (typeof STATUSES)[number]

/** CM: what the initiator asks of a hop. */
export interface ClientMessage {
  readonly role: HopRole
  /** 32 bytes; zero unless `role` is compute. */
  readonly modelId: Uint8Array
  readonly span: Span
  readonly maxContext: number
  /** 32 bytes; all zero: any class. */
  readonly numericsClass: Uint8Array
  readonly lifetimeS: number
}

/** SM: what the hop would grant. Only `status` counts unless it is OK. */
export interface ServerMessage {
  readonly status: CreateStatus
  readonly numericsClass: Uint8Array
  readonly maxContext: number
  readonly idleS: number
  readonly lifeS: number
  readonly queueBytes: number
}

export function encodeClientMessage(message: ClientMessage): Uint8Array {
  const fields = createByteWriter()
    .u8(VERSION)
    .u8(ROLES.indexOf(message.role))
    .u16(0)
    .bytes(message.modelId)
    .u16(message.span.start)
    .u16(message.span.end)
    .u32(message.maxContext)
    .u8(DTYPE_F32)
    .bytes(message.numericsClass)
    .u32(message.lifetimeS)
    .finish()
  return pad(fields, CLIENT_MESSAGE_BYTES)
}

/** Throws BAD_RECORD with the field's name. */
export function decodeClientMessage(bytes: Uint8Array): ClientMessage {
  if (bytes.length !== CLIENT_MESSAGE_BYTES) throw bad('CM', 'length')
  const reader = createByteReader(bytes, 'CM')
  if (reader.u8('version') !== VERSION) throw bad('CM', 'version')
  const role = ROLES[reader.u8('role')]
  if (role === undefined) throw bad('CM', 'role')
  if (reader.u16('flags') !== 0) throw bad('CM', 'flags')
  const modelId = reader.bytes(32, 'modelId')
  const span = { start: reader.u16('start'), end: reader.u16('end') }
  const maxContext = reader.u32('maxCtx')
  if (reader.u8('dtype') !== DTYPE_F32) throw bad('CM', 'dtype')
  const numericsClass = reader.bytes(32, 'class')
  const lifetimeS = reader.u32('lifetimeS')
  if (lifetimeS === 0) throw bad('CM', 'lifetimeS')
  if (!isZero(reader.bytes(reader.remaining, 'padding'))) throw bad('CM', 'padding')
  if (role === 'compute') {
    if (span.end <= span.start) throw bad('CM', 'span')
    if (maxContext === 0) throw bad('CM', 'maxCtx')
  } else if (!isZero(modelId) || !isZero(numericsClass) || span.start + span.end + maxContext !== 0) {
    // Other roles have no use for these fields: a relay must not learn which model is asked.
    throw bad('CM', 'unused fields')
  }
  return { role, modelId, span, maxContext, numericsClass, lifetimeS }
}

export function encodeServerMessage(message: ServerMessage): Uint8Array {
  const fields = createByteWriter()
    .u8(STATUSES.indexOf(message.status))
    .u16(0)
    .bytes(message.numericsClass)
    .u32(message.maxContext)
    .u16(message.idleS)
    .u16(message.lifeS)
    .u32(message.queueBytes)
    .finish()
  return pad(fields, SERVER_MESSAGE_BYTES)
}

/** Throws BAD_RECORD with the field's name. */
export function decodeServerMessage(bytes: Uint8Array): ServerMessage {
  if (bytes.length !== SERVER_MESSAGE_BYTES) throw bad('SM', 'length')
  const reader = createByteReader(bytes, 'SM')
  const status = STATUSES[reader.u8('status')]
  if (status === undefined) throw bad('SM', 'status')
  if (reader.u16('flags') !== 0) throw bad('SM', 'flags')
  const message = {
    status,
    numericsClass: reader.bytes(32, 'class'),
    maxContext: reader.u32('maxCtx'),
    idleS: reader.u16('idleS'),
    lifeS: reader.u16('lifeS'),
    queueBytes: reader.u32('queueBytes'),
  }
  if (!isZero(reader.bytes(reader.remaining, 'padding'))) throw bad('SM', 'padding')
  return message
}

/** SM of a hop that takes no circuit now. */
export function refusal(status: 'BUSY' | 'REJECT'): ServerMessage {
  return { status, numericsClass: new Uint8Array(32), maxContext: 0, idleS: 0, lifeS: 0, queueBytes: 0 }
}

function pad(fields: Uint8Array, length: number): Uint8Array {
  if (fields.length > length) throw new LlmNodeError('INTERNAL', 'A handshake message is too long.')
  return concatBytes(fields, new Uint8Array(length - fields.length))
}

function bad(what: string, field: string): LlmNodeError {
  return new LlmNodeError('BAD_RECORD', `${what}: ${field} is not valid.`, { meta: { field } })
}
