import { createHash } from 'node:crypto'
import {
  type ByteReader,
  type ByteWriter,
  createByteReader,
  createByteWriter,
  fromUtf8,
  toHex,
  utf8,
} from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import { assertAddressKey } from '../p2p/address.ts'
import type { ReachabilityWord } from '../p2p/judge-reachability.ts'
import { PEER_ID_BYTES, peerIdFromBytes, peerIdToBytes } from '../p2p/peer-id-bytes.ts'
import { appendSignature, hasSignature, SIGNATURE_BYTES } from '../p2p/signing.ts'
import { ADVERT_ID_BYTES, LINK_BYTES } from './heartbeat.ts'
import type { ServingState } from './map.ts'

/** One span of one model that a node serves. */
export interface Serving {
  /** 32 bytes. */
  readonly modelId: Uint8Array
  readonly span: Span
  /** Id of the recipe, at most 8 characters. */
  readonly recipe: string
  /** 32 bytes (engine.md). */
  readonly numericsClass: Uint8Array
  readonly state: ServingState
  /** Ms per layer of one decode step. */
  readonly decodeMs: number
  /** Ms per row and layer of a prefill chunk. */
  readonly prefillMs: number
  readonly freeKvTokens: number
  /** 4 bytes for each layer, in order: the beginning of the digest of its weights. */
  readonly layerDigests: Uint8Array
}

/** A signed statement of what a node offers the swarm (swarm.md §2). */
export interface Advert {
  /** Ed25519, 32 bytes. */
  readonly addressKey: Uint8Array
  /** Transport PeerId as text. */
  readonly peerId: string
  readonly sequence: number
  readonly serving: readonly Serving[]
  /** Willing to forward for others. */
  readonly relay: boolean
  readonly reachability: ReachabilityWord
  /** Round trips to other nodes, by nodeId. */
  readonly neighbours: readonly { readonly nodeId: string; readonly rttMs: number }[]
  /** Of the software, at most 32 bytes. */
  readonly version: string
  /** End of the heartbeat chain, 16 bytes. */
  readonly chainEnd: Uint8Array
}

const VERSION = 1
const LABEL = 'llm advert v1'
const END_LABEL = 'llm advert end v1'
const STATES: readonly ServingState[] = ['joining', 'online', 'draining']
const REACHABILITIES: readonly ReachabilityWord[] = ['unknown', 'unreachable', 'public', 'mapped', 'relayed']
const NODE_ID_BYTES = 8
const RECIPE_BYTES = 8
const SOFTWARE_BYTES = 32
const NS_PER_MS = 1_000_000
const UINT32_MAX = 2 ** 32 - 1

export interface AdvertSigner {
  readonly network: string
  sign(message: Uint8Array): Uint8Array
}

/** Names a neighbour inside adverts: the first 8 bytes of its address key, as hex. */
export function nodeIdOf(addressKey: Uint8Array): string {
  return toHex(addressKey.subarray(0, NODE_ID_BYTES))
}

/** Names an advert inside the exchange: the first 8 bytes of its SHA-256. */
export function advertIdOf(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(bytes).digest().subarray(0, ADVERT_ID_BYTES))
}

/** The advert's bytes with its signature, ≤1 KiB. Figures are rounded as they are carried. Throws BAD_INPUT. */
export function encodeAdvert(advert: Advert, by: AdvertSigner): Uint8Array<ArrayBuffer> {
  if (advert.serving.length > coverageLimits.servings || advert.neighbours.length > coverageLimits.advertNeighbours) {
    throw new LlmNodeError('BAD_INPUT', 'An advert names at most 4 models and 5 neighbours.')
  }
  const writer = createByteWriter()
    .u8(VERSION)
    .u8(advert.relay ? 1 : 0)
    .bytes(advert.addressKey)
    .bytes(peerIdToBytes(advert.peerId))
    .u64(advert.sequence)
    .u8(REACHABILITIES.indexOf(advert.reachability))
    .u8(advert.serving.length)
  for (const serving of advert.serving) writeServing(writer, serving)
  writer.u8(advert.neighbours.length)
  for (const { nodeId, rttMs } of advert.neighbours) {
    writer.bytes(Buffer.from(nodeId, 'hex')).u16(Math.min(65_535, Math.round(rttMs * 10)))
  }
  writeText(writer, advert.version, SOFTWARE_BYTES)
  const bytes = appendSignature(writer.bytes(advert.chainEnd).finish(), { label: LABEL, ...by })
  if (bytes.length > coverageLimits.advertBytes) {
    throw new LlmNodeError(
      'BAD_INPUT',
      `The advert would have ${bytes.length} bytes; ${coverageLimits.advertBytes} are allowed.`,
    )
  }
  return bytes
}

function writeServing(writer: ByteWriter, serving: Serving): void {
  const layers = spanLength(serving.span)
  if (layers < 1 || layers > coverageLimits.advertLayers || serving.layerDigests.length !== 4 * layers) {
    throw new LlmNodeError(
      'BAD_INPUT',
      `An advert cannot carry ${serving.layerDigests.length} bytes for ${layers} layers.`,
    )
  }
  writer.bytes(serving.modelId).u16(serving.span.start).u16(serving.span.end)
  writeText(writer, serving.recipe, RECIPE_BYTES)
  writer
    .bytes(serving.numericsClass)
    .u8(STATES.indexOf(serving.state))
    .u32(Math.min(UINT32_MAX, Math.round(serving.decodeMs * NS_PER_MS)))
    .u32(Math.min(UINT32_MAX, Math.round(serving.prefillMs * NS_PER_MS)))
    .u32(Math.min(UINT32_MAX, serving.freeKvTokens))
    .bytes(serving.layerDigests)
}

function writeText(writer: ByteWriter, text: string, maxBytes: number): void {
  const bytes = utf8(text).subarray(0, maxBytes)
  writer.u8(bytes.length).bytes(bytes)
}

/** Reads and checks an advert: size, form, ranges, key, signature. Fails closed with BAD_RECORD that says why. */
export function verifyAdvert(bytes: Uint8Array, options: { network: string }): Advert {
  if (bytes.length > coverageLimits.advertBytes) throw bad(`has ${bytes.length} bytes`)
  if (bytes.length < SIGNATURE_BYTES) throw bad('is cut off')
  const advert = parse(createByteReader(bytes.subarray(0, -SIGNATURE_BYTES), 'Advert'))
  checkSignature(bytes, advert.addressKey, { label: LABEL, network: options.network })
  return advert
}

function parse(reader: ByteReader): Advert {
  const version = reader.u8('version')
  if (version !== VERSION) throw bad(`has version ${version}`)
  const flags = reader.u8('flags')
  if (flags > 1) throw bad(`has unknown flags ${flags}`)
  const addressKey = reader.bytes(32, 'address key')
  const peerId = peerIdFromBytes(reader.bytes(PEER_ID_BYTES, 'PeerId'))
  const sequence = readSequence(reader)
  const reachability = pick(REACHABILITIES, reader.u8('reachability'), 'reachability')
  const nServing = count(reader.u8('models'), coverageLimits.servings, 'models')
  const serving = Array.from({ length: nServing }, () => readServing(reader))
  const nNeighbours = count(reader.u8('neighbours'), coverageLimits.advertNeighbours, 'neighbours')
  const neighbours = Array.from({ length: nNeighbours }, () => ({
    nodeId: toHex(reader.bytes(NODE_ID_BYTES, 'neighbour')),
    rttMs: reader.u16('round trip') / 10,
  }))
  const software = readText(reader, SOFTWARE_BYTES, 'software version')
  const chainEnd = reader.bytes(LINK_BYTES, 'chain end')
  reader.end()
  const relay = flags === 1
  return { addressKey, peerId, sequence, serving, relay, reachability, neighbours, version: software, chainEnd }
}

function readServing(reader: ByteReader): Serving {
  const modelId = reader.bytes(32, 'model id')
  const span = { start: reader.u16('start'), end: reader.u16('end') }
  const layers = spanLength(span)
  if (layers < 1 || layers > coverageLimits.advertLayers) throw bad(`has a span of ${layers} layers`)
  const recipe = readText(reader, RECIPE_BYTES, 'recipe')
  const numericsClass = reader.bytes(32, 'numerics class')
  const state = pick(STATES, reader.u8('state'), 'state')
  const decodeMs = reader.u32('decode time') / NS_PER_MS
  const prefillMs = reader.u32('prefill time') / NS_PER_MS
  const freeKvTokens = reader.u32('free KV')
  const layerDigests = reader.bytes(4 * layers, 'layer digests')
  return { modelId, span, recipe, numericsClass, state, decodeMs, prefillMs, freeKvTokens, layerDigests }
}

/** A signed farewell: whoever has sent it is gone, whatever else is still on its way. */
export interface Tombstone {
  readonly addressKey: Uint8Array
  /** Above that of the last advert. */
  readonly sequence: number
}

export function encodeTombstone(tombstone: Tombstone, by: AdvertSigner): Uint8Array<ArrayBuffer> {
  const bytes = createByteWriter().u8(VERSION).bytes(tombstone.addressKey).u64(tombstone.sequence).finish()
  return appendSignature(bytes, { label: END_LABEL, ...by })
}

/** Throws BAD_RECORD. */
export function verifyTombstone(bytes: Uint8Array, options: { network: string }): Tombstone {
  if (bytes.length !== 41 + SIGNATURE_BYTES) throw bad(`is no tombstone: it has ${bytes.length} bytes`)
  const reader = createByteReader(bytes, 'Tombstone')
  const version = reader.u8('version')
  if (version !== VERSION) throw bad(`has version ${version}`)
  const addressKey = reader.bytes(32, 'address key')
  const sequence = readSequence(reader)
  checkSignature(bytes, addressKey, { label: END_LABEL, network: options.network })
  return { addressKey, sequence }
}

function checkSignature(bytes: Uint8Array, addressKey: Uint8Array, by: { label: string; network: string }): void {
  try {
    assertAddressKey(addressKey)
  } catch (cause) {
    throw new LlmNodeError('BAD_RECORD', 'The advert holds an address key that is no valid point.', { cause })
  }
  if (!hasSignature(bytes, { ...by, addressKey })) throw bad('is not signed by its address in this network')
}

function readSequence(reader: ByteReader): number {
  const value = reader.u64('sequence')
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad('has an impossible sequence')
  return Number(value)
}

function readText(reader: ByteReader, maxBytes: number, field: string): string {
  const length = count(reader.u8(`${field} length`), maxBytes, field)
  try {
    const text = fromUtf8(reader.bytes(length, field))
    // Shown to people: no control characters that could rewrite a terminal.
    if (!/\p{Cc}/u.test(text)) return text
  } catch (error) {
    if (error instanceof LlmNodeError) throw error
  }
  throw bad(`has a ${field} that is no text`)
}

function count(value: number, max: number, field: string): number {
  if (value > max) throw bad(`has ${value} as ${field}`)
  return value
}

function pick<T>(values: readonly T[], index: number, field: string): T {
  const value = values[index]
  if (value === undefined) throw bad(`has an unknown ${field}`)
  return value
}

function bad(problem: string): LlmNodeError {
  return new LlmNodeError('BAD_RECORD', `The advert ${problem}.`)
}
