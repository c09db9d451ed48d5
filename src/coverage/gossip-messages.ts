import { type ByteWriter, createByteReader, createByteWriter, equalBytes, fromHex, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Reach } from './crowd.ts'

/**
 * Messages of `/llm/adverts/1`, one request and one answer each:
 *
 * ```
 * request = network tag 8 | op 1 | wish 1 | body     op 1: digest, 2: news; wish: bit 0 = send me every heartbeat
 * digest  = reach | lines                            whom the sender wants to know of; what it holds and takes for alive
 * news    = items | lines                            what is new, and what can be had for the asking
 * answer  = wish 1 | reach | items | wants | lacks   what the sender lacks, and what the answerer would like: adverts with
 *                                                    their heartbeats, and contact records of peers it knows
 * reach   = position4 | n2 (group2 | radius4)*       crowd.ts; n = 0: everybody
 * lines   = n2 (advert id 8 | index 2)*
 * items   = n2 (kind1 | ageMs4 | len2 | bytes)*
 * wants, lacks = n2 (advert id 8)*
 * ```
 */
export type GossipItemKind = 'advert' | 'heartbeat' | 'tombstone' | 'contact'

/** What of a peer has changed: an advert goes out with its last heartbeat. */
export type Change = GossipItemKind

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

export type GossipRequest = { readonly wish: boolean } & (
  | { readonly op: 'digest'; readonly reach: Reach; readonly lines: readonly DigestLine[] }
  | { readonly op: 'news'; readonly items: readonly GossipItem[]; readonly lines: readonly DigestLine[] }
)

export interface GossipAnswer {
  readonly wish: boolean
  readonly reach: Reach
  readonly items: readonly GossipItem[]
  /** Advert ids, hex. */
  readonly wants: readonly string[]
  /** Ids of adverts whose contact record is missing. */
  readonly lacks: readonly string[]
}

const TAG_BYTES = 8
const OP_DIGEST = 1
const OP_NEWS = 2
const KINDS: readonly GossipItemKind[] = ['advert', 'heartbeat', 'tombstone', 'contact']
/** The longest of the four: a contact record. */
const ITEM_BYTES = 1_536
/** Groups of 4 models of 160 layers. */
const GROUPS = 160
const UINT32_MAX = 2 ** 32 - 1

export function encodeRequest(tag: Uint8Array, request: GossipRequest): Uint8Array {
  const writer = createByteWriter().bytes(tag)
  writer.u8(request.op === 'digest' ? OP_DIGEST : OP_NEWS).u8(request.wish ? 1 : 0)
  if (request.op === 'digest') writeReach(writer, request.reach)
  else writeItems(writer, request.items)
  writeLines(writer, request.lines)
  return writer.finish()
}

/** Throws BAD_RECORD; PEER_REFUSED when the peer is of another network. */
export function decodeRequest(bytes: Uint8Array, tag: Uint8Array): GossipRequest {
  const reader = createByteReader(bytes, 'Advert request')
  if (!equalBytes(reader.bytes(TAG_BYTES, 'network'), tag)) {
    throw new LlmNodeError('PEER_REFUSED', 'The peer belongs to another network.')
  }
  const op = reader.u8('op')
  const wish = readWish(reader)
  const request =
    op === OP_DIGEST
      ? { op: 'digest' as const, wish, reach: readReach(reader), lines: readLines(reader) }
      : op === OP_NEWS
        ? { op: 'news' as const, wish, items: readItems(reader), lines: readLines(reader) }
        : undefined
  if (request === undefined) throw new LlmNodeError('BAD_RECORD', `Advert request: there is no op ${op}.`)
  reader.end()
  return request
}

export function encodeAnswer(answer: GossipAnswer): Uint8Array {
  const writer = createByteWriter().u8(answer.wish ? 1 : 0)
  writeReach(writer, answer.reach)
  writeItems(writer, answer.items)
  writeIds(writer, answer.wants)
  writeIds(writer, answer.lacks)
  return writer.finish()
}

/** Throws BAD_RECORD. */
export function decodeAnswer(bytes: Uint8Array): GossipAnswer {
  const reader = createByteReader(bytes, 'Advert answer')
  const wish = readWish(reader)
  const reach = readReach(reader)
  const items = readItems(reader)
  const [wants, lacks] = [readIds(reader), readIds(reader)]
  reader.end()
  return { wish, reach, items, wants, lacks }
}

type Reader = ReturnType<typeof createByteReader>

function readWish(reader: Reader): boolean {
  const wish = reader.u8('wish')
  if (wish > 1) throw new LlmNodeError('BAD_RECORD', `Adverts: there is no wish ${wish}.`)
  return wish === 1
}

function writeReach(writer: ByteWriter, { position, radii }: Reach): void {
  writer.u32(position).u16(radii.size)
  for (const [group, radius] of radii) writer.u16(group).u32(radius)
}

function readReach(reader: Reader): Reach {
  const position = reader.u32('position')
  const radii = new Map<number, number>()
  const count = readCount(reader, GROUPS)
  for (let i = 0; i < count; i++) {
    const group = reader.u16('group')
    if (radii.has(group)) throw new LlmNodeError('BAD_RECORD', `Adverts: group ${group} comes twice.`)
    radii.set(group, reader.u32('radius'))
  }
  return { position, radii }
}

function writeLines(writer: ByteWriter, lines: readonly DigestLine[]): void {
  writer.u16(lines.length)
  for (const { advertId, index } of lines) writer.bytes(fromHex(advertId)).u16(index)
}

function readLines(reader: Reader): DigestLine[] {
  return Array.from({ length: readCount(reader, coverageLimits.peers) }, () => ({
    advertId: toHex(reader.bytes(8, 'advert id')),
    index: reader.u16('index'),
  }))
}

function writeIds(writer: ByteWriter, ids: readonly string[]): void {
  writer.u16(ids.length)
  for (const id of ids) writer.bytes(fromHex(id))
}

function readIds(reader: Reader): string[] {
  return Array.from({ length: readCount(reader, coverageLimits.peers) }, () => toHex(reader.bytes(8, 'advert id')))
}

function writeItems(writer: ByteWriter, items: readonly GossipItem[]): void {
  writer.u16(items.length)
  for (const { kind, ageMs, bytes } of items) {
    writer.u8(KINDS.indexOf(kind)).u32(Math.min(UINT32_MAX, Math.max(0, Math.round(ageMs))))
    writer.u16(bytes.length).bytes(bytes)
  }
}

function readItems(reader: Reader): GossipItem[] {
  return Array.from({ length: readCount(reader, coverageLimits.messageItems) }, () => {
    const kind = KINDS[reader.u8('kind')]
    if (kind === undefined) throw new LlmNodeError('BAD_RECORD', 'Adverts: an item of unknown kind.')
    const ageMs = reader.u32('age')
    const length = reader.u16('length')
    if (length > ITEM_BYTES) throw new LlmNodeError('BAD_RECORD', `Adverts: an item of ${length} bytes.`)
    return { kind, ageMs, bytes: reader.bytes(length, 'item') }
  })
}

function readCount(reader: Reader, max: number): number {
  const count = reader.u16('count')
  if (count > max) throw new LlmNodeError('BAD_RECORD', `Adverts: a list of ${count}; ${max} are allowed.`)
  return count
}
