import { type ByteWriter, createByteReader, createByteWriter, equalBytes, fromHex, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'

/**
 * Messages of `/llm/adverts/1`, one request and one answer each:
 *
 * ```
 * request = network tag 8 | op 1 | body        op 1: digest, 2: items
 * digest  = n2 (advert id 8 | index 2)*        what the sender holds and takes for alive
 * answer  = items | wants                      what the sender lacks, and what the answerer would like
 * items   = n2 (kind1 | ageMs4 | len2 | bytes)*
 * wants   = n2 (advert id 8)*
 * ```
 */
export type GossipItemKind = 'advert' | 'heartbeat' | 'tombstone' | 'contact'

export interface GossipItem {
  readonly kind: GossipItemKind
  /** Of the sign of life, added up over the holders; 0 for tombstones and contacts. */
  readonly ageMs: number
  readonly bytes: Uint8Array
}

export interface DigestLine {
  /** Hex. */
  readonly advertId: string
  readonly index: number
}

export type GossipRequest =
  | { readonly op: 'digest'; readonly lines: readonly DigestLine[] }
  | { readonly op: 'items'; readonly items: readonly GossipItem[] }

export interface GossipAnswer {
  readonly items: readonly GossipItem[]
  /** Advert ids, hex. */
  readonly wants: readonly string[]
}

const TAG_BYTES = 8
const OP_DIGEST = 1
const OP_ITEMS = 2
const KINDS: readonly GossipItemKind[] = ['advert', 'heartbeat', 'tombstone', 'contact']
/** The longest of the four: a contact record. */
const ITEM_BYTES = 1_536
const UINT32_MAX = 2 ** 32 - 1

export function encodeRequest(tag: Uint8Array, request: GossipRequest): Uint8Array {
  const writer = createByteWriter().bytes(tag)
  if (request.op === 'items') writeItems(writer.u8(OP_ITEMS), request.items)
  else {
    writer.u8(OP_DIGEST).u16(request.lines.length)
    for (const { advertId, index } of request.lines) writer.bytes(fromHex(advertId)).u16(index)
  }
  return writer.finish()
}

/** Throws BAD_RECORD; PEER_REFUSED when the peer is of another network. */
export function decodeRequest(bytes: Uint8Array, tag: Uint8Array): GossipRequest {
  const reader = createByteReader(bytes, 'Advert request')
  if (!equalBytes(reader.bytes(TAG_BYTES, 'network'), tag)) {
    throw new LlmNodeError('PEER_REFUSED', 'The peer belongs to another network.')
  }
  const op = reader.u8('op')
  if (op === OP_ITEMS) {
    const items = readItems(reader)
    reader.end()
    return { op: 'items', items }
  }
  if (op !== OP_DIGEST) throw new LlmNodeError('BAD_RECORD', `Advert request: there is no op ${op}.`)
  const lines = Array.from({ length: readCount(reader, coverageLimits.peers) }, () => ({
    advertId: toHex(reader.bytes(8, 'advert id')),
    index: reader.u16('index'),
  }))
  reader.end()
  return { op: 'digest', lines }
}

export function encodeAnswer(answer: GossipAnswer): Uint8Array {
  const writer = createByteWriter()
  writeItems(writer, answer.items)
  writer.u16(answer.wants.length)
  for (const id of answer.wants) writer.bytes(fromHex(id))
  return writer.finish()
}

/** Throws BAD_RECORD. */
export function decodeAnswer(bytes: Uint8Array): GossipAnswer {
  const reader = createByteReader(bytes, 'Advert answer')
  const items = readItems(reader)
  const nWants = readCount(reader, coverageLimits.peers)
  const wants = Array.from({ length: nWants }, () => toHex(reader.bytes(8, 'advert id')))
  reader.end()
  return { items, wants }
}

function writeItems(writer: ByteWriter, items: readonly GossipItem[]): void {
  writer.u16(items.length)
  for (const { kind, ageMs, bytes } of items) {
    writer.u8(KINDS.indexOf(kind)).u32(Math.min(UINT32_MAX, Math.max(0, Math.round(ageMs))))
    writer.u16(bytes.length).bytes(bytes)
  }
}

function readItems(reader: ReturnType<typeof createByteReader>): GossipItem[] {
  return Array.from({ length: readCount(reader, coverageLimits.messageItems) }, () => {
    const kind = KINDS[reader.u8('kind')]
    if (kind === undefined) throw new LlmNodeError('BAD_RECORD', 'Adverts: an item of unknown kind.')
    const ageMs = reader.u32('age')
    const length = reader.u16('length')
    if (length > ITEM_BYTES) throw new LlmNodeError('BAD_RECORD', `Adverts: an item of ${length} bytes.`)
    return { kind, ageMs, bytes: reader.bytes(length, 'item') }
  })
}

function readCount(reader: ReturnType<typeof createByteReader>, max: number): number {
  const count = reader.u16('count')
  if (count > max) throw new LlmNodeError('BAD_RECORD', `Adverts: a list of ${count}; ${max} are allowed.`)
  return count
}
