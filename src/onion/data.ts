import { endianness } from 'node:os'
import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { CHUNK_CLASSES, DATA_HEADER_BYTES } from '../p2p/circuit-frames.ts'
import { type CryptoBackend, TAG_BYTES } from './crypto.ts'
import {
  badFrame,
  FLAG_FIRST,
  FLAG_LAST,
  MAX_CHUNK_BYTES,
  readDataHeader,
  writeDataHeader,
  writeN,
  writeU32,
} from './frames.ts'
import type { RelayMode, SegmentKeys } from './ops.ts'
import { createOpener, createSealer, type Opener, type Sealer } from './ratchet.ts'

/** kind of protocol.md §5. */
export const KIND = { forward: 1, result: 2, answer: 3, cancel: 4, padding: 5 } as const
export type Kind = (typeof KIND)[keyof typeof KIND]

/** The 22 bytes that open a frame's plaintext. */
export interface DataHeader {
  readonly kind: Kind
  readonly step: number
  readonly pos: number
  readonly nTokens: number
  readonly want: number
  /** Columns of a row of f32; 0 for kinds without rows. */
  readonly hiddenSize: number
  readonly totalBytes: number
}

export interface DataFrame {
  readonly header: DataHeader
  /** `totalBytes` bytes in a buffer of their own; with rows: f32, little-endian, row-major [nTokens, hiddenSize]. */
  readonly body: Uint8Array<ArrayBuffer>
}

/** What may arrive on a segment; checked before anything is allocated. */
export interface DataGrant {
  readonly kinds: ReadonlySet<Kind>
  readonly hiddenSize: number
  readonly maxRows: number
  /** Bound for bodies without rows. */
  readonly maxBytes: number
}

const HEADER_BYTES = 22
const DTYPE_NONE = 0
const DTYPE_F32 = 1
const FIRST_CHUNK_BYTES = MAX_CHUNK_BYTES - HEADER_BYTES
const DATA_LABEL = utf8('llm/data')
const RELAY_LABEL = utf8('llm/relay')

/** One chunk's plaintext is built here: sealing is synchronous, and every byte used is written each time. */
const scratch = new Uint8Array(MAX_CHUNK_BYTES)

if (endianness() !== 'LE') throw new LlmNodeError('ENGINE_UNAVAILABLE', 'This machine is not little-endian.')

export interface SegmentSealer {
  /** Passes the frame's chunks to `emit` in order, each one contiguous buffer. `body` holds `header.totalBytes` bytes. */
  seal(header: DataHeader, body: Uint8Array, emit: (frame: Uint8Array) => void): void
  wipe(): void
}

/** Takes the keys over. `layers`: relay layers that the sealing end adds, innermost first. */
export function createSegmentSealer(
  segment: SegmentKeys,
  layers: readonly Sealer[],
  crypto: CryptoBackend,
): SegmentSealer {
  const sealer = createSealer(segment.material, 'd', crypto)
  const aad = createDataAad(segment.id)
  return {
    seal(header, body, emit) {
      let offset = 0
      let first = true
      do {
        const room = first ? FIRST_CHUNK_BYTES : MAX_CHUNK_BYTES
        const length = Math.min(room, body.length - offset)
        const start = first ? HEADER_BYTES : 0
        if (first) writeHeader(header)
        const size = classOf(start + length)
        scratch.set(body.subarray(offset, offset + length), start)
        scratch.fill(0, start + length, size)
        offset += length
        const flags = (first ? FLAG_FIRST : 0) | (offset === body.length ? FLAG_LAST : 0)
        first = false
        const n = sealer.n
        const frame = new Uint8Array(DATA_HEADER_BYTES + size + TAG_BYTES * (1 + layers.length))
        sealer.seal(aad(flags, size + TAG_BYTES, n), scratch.subarray(0, size), frame, DATA_HEADER_BYTES)
        addLayers(layers, frame, flags, n, size + TAG_BYTES)
        writeDataHeader(frame, flags, n)
        emit(frame)
      } while (offset < body.length)
    },
    wipe() {
      sealer.wipe()
      for (const layer of layers) layer.wipe()
    },
  }
}

/** What a frame with a body of `totalBytes` weighs on a link, all chunks, headers and `layers` relay layers together. */
export function frameWireBytes(totalBytes: number, layers: number): number {
  const overhead = DATA_HEADER_BYTES + TAG_BYTES * (1 + layers)
  const rest = totalBytes - FIRST_CHUNK_BYTES
  if (rest <= 0) return classOf(HEADER_BYTES + totalBytes) + overhead
  const last = rest % MAX_CHUNK_BYTES
  const full = 1 + Math.floor(rest / MAX_CHUNK_BYTES)
  return full * (MAX_CHUNK_BYTES + overhead) + (last === 0 ? 0 : classOf(last) + overhead)
}

export interface SegmentOpener {
  /** The whole frame with its last chunk, otherwise undefined. Throws AUTH_FAILED, BAD_FRAME or LIMIT. */
  push(frame: Uint8Array): DataFrame | undefined
  /** Bytes of a frame that is not whole yet. */
  readonly pendingBytes: number
  wipe(): void
}

/** Takes the keys over. `layers`: relay layers that the opening end peels, outermost first. */
export function createSegmentOpener(
  segment: SegmentKeys,
  layers: readonly Opener[],
  grant: DataGrant,
  crypto: CryptoBackend,
): SegmentOpener {
  const opener = createOpener(segment.material, 'd', crypto)
  const aad = createDataAad(segment.id)
  let pending: { frame: DataFrame; filled: number } | undefined

  const take = (plaintext: Uint8Array, flags: number): DataFrame | undefined => {
    const first = pending === undefined
    if (((flags & FLAG_FIRST) !== 0) !== first) throw badFrame('flags')
    const start = first ? HEADER_BYTES : 0
    pending ??= { frame: allocate(readHeader(plaintext), grant), filled: 0 }
    const { frame, filled } = pending
    const length = Math.min(frame.body.length - filled, first ? FIRST_CHUNK_BYTES : MAX_CHUNK_BYTES)
    if (plaintext.length !== classOf(start + length)) throw badFrame('class')
    const whole = filled + length === frame.body.length
    if (((flags & FLAG_LAST) !== 0) !== whole) throw badFrame('flags')
    for (let i = start + length; i < plaintext.length; i++) if (plaintext[i] !== 0) throw badFrame('padding')
    frame.body.set(plaintext.subarray(start, start + length), filled)
    pending.filled += length
    if (!whole) return undefined
    pending = undefined
    return frame
  }

  return {
    get pendingBytes() {
      return pending?.frame.body.length ?? 0
    },
    push(frame) {
      const { flags, n } = readDataHeader(frame)
      if (n !== opener.n) throw badFrame('n')
      let sealed = frame.subarray(DATA_HEADER_BYTES)
      for (const layer of layers) sealed = openLayer(layer, sealed, flags, n)
      return take(opener.open(aad(flags, sealed.length, n), sealed), flags)
    },
    wipe() {
      opener.wipe()
      for (const layer of layers) layer.wipe()
      pending?.frame.body.fill(0)
      pending = undefined
    },
  }
}

export interface RelayLayer {
  /** The frame for the successor. Throws AUTH_FAILED or BAD_FRAME. */
  pass(frame: Uint8Array): Uint8Array
  wipe(): void
}

/** What a relay does with each data frame. Takes `material` over. */
export function createRelayLayer(
  mode: RelayMode,
  material: SegmentKeys['material'],
  crypto: CryptoBackend,
): RelayLayer {
  if (mode === 'peel') {
    const opener = createOpener(material, 'r', crypto)
    return {
      pass(frame) {
        const { flags, n } = readDataHeader(frame)
        const inner = openLayer(opener, frame.subarray(DATA_HEADER_BYTES), flags, n)
        const peeled = new Uint8Array(DATA_HEADER_BYTES + inner.length)
        peeled.set(inner, DATA_HEADER_BYTES)
        writeDataHeader(peeled, flags, n)
        readDataHeader(peeled)
        return peeled
      },
      wipe: () => opener.wipe(),
    }
  }
  if (mode === 'add') {
    const sealer = createSealer(material, 'r', crypto)
    return {
      pass(frame) {
        const { flags, n } = readDataHeader(frame)
        if (n !== sealer.n) throw badFrame('n')
        const added = new Uint8Array(frame.length + TAG_BYTES)
        sealer.seal(relayAad(flags, n), frame.subarray(DATA_HEADER_BYTES), added, DATA_HEADER_BYTES)
        writeDataHeader(added, flags, n)
        readDataHeader(added)
        return added
      },
      wipe: () => sealer.wipe(),
    }
  }
  material.wipe()
  let next = 0
  return {
    pass(frame) {
      if (readDataHeader(frame).n !== next) throw badFrame('n')
      next++
      return frame
    },
    wipe() {},
  }
}

/** The rows of a frame as numbers, without a copy: the body has its own buffer. */
export function rowsOf(frame: DataFrame): Float32Array<ArrayBuffer> {
  return new Float32Array(frame.body.buffer, 0, frame.body.length >> 2)
}

/** Little-endian bytes of rows, without a copy. */
export function bytesOf(rows: Float32Array): Uint8Array {
  return new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)
}

/** One pass without a branch per value: NaN and ±Inf times 0 are NaN, and NaN stays. */
export function allFinite(rows: Float32Array): boolean {
  let sum = 0
  for (let i = 0; i < rows.length; i++) sum += (rows[i] as number) * 0
  return sum === 0
}

function addLayers(layers: readonly Sealer[], frame: Uint8Array, flags: number, n: number, length: number): void {
  let end = DATA_HEADER_BYTES + length
  for (const layer of layers) {
    if (layer.n !== n) throw badFrame('n')
    layer.seal(relayAad(flags, n), frame.subarray(DATA_HEADER_BYTES, end), frame, DATA_HEADER_BYTES)
    end += TAG_BYTES
  }
}

function openLayer(layer: Opener, sealed: Uint8Array, flags: number, n: number): Uint8Array {
  if (n !== layer.n) throw badFrame('n')
  return layer.open(relayAad(flags, n), sealed)
}

function createDataAad(segmentId: Uint8Array): (flags: number, innerLength: number, n: number) => Uint8Array {
  const aad = new Uint8Array(DATA_LABEL.length + 8 + 1 + 4 + 8)
  aad.set(DATA_LABEL)
  aad.set(segmentId, DATA_LABEL.length)
  const at = DATA_LABEL.length + 8
  return (flags, innerLength, n) => {
    aad[at] = flags
    writeU32(aad, at + 1, innerLength)
    writeN(aad, at + 5, n)
    return aad
  }
}

const relayAadBuffer = new Uint8Array(RELAY_LABEL.length + 9)
relayAadBuffer.set(RELAY_LABEL)

function relayAad(flags: number, n: number): Uint8Array {
  relayAadBuffer[RELAY_LABEL.length] = flags
  writeN(relayAadBuffer, RELAY_LABEL.length + 1, n)
  return relayAadBuffer
}

function classOf(length: number): number {
  for (const size of CHUNK_CLASSES) if (length <= size) return size
  throw new LlmNodeError('INTERNAL', 'A chunk is too long.')
}

function writeHeader(header: DataHeader): void {
  scratch[0] = header.kind
  writeU32(scratch, 1, header.step)
  writeU32(scratch, 5, header.pos)
  scratch[9] = header.nTokens >> 8
  scratch[10] = header.nTokens
  scratch[11] = header.want >> 8
  scratch[12] = header.want
  scratch[13] = header.hiddenSize === 0 ? DTYPE_NONE : DTYPE_F32
  writeU32(scratch, 14, header.hiddenSize)
  writeU32(scratch, 18, header.totalBytes)
}

function readHeader(plaintext: Uint8Array): DataHeader {
  const view = new DataView(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength)
  const hiddenSize = view.getUint32(14)
  if (view.getUint8(13) !== (hiddenSize === 0 ? DTYPE_NONE : DTYPE_F32)) throw badFrame('dtype')
  return {
    kind: view.getUint8(0) as Kind,
    step: view.getUint32(1),
    pos: view.getUint32(5),
    nTokens: view.getUint16(9),
    want: view.getUint16(11),
    hiddenSize,
    totalBytes: view.getUint32(18),
  }
}

/** Checks what the header claims against the grant, and only then allocates. Throws BAD_FRAME or LIMIT. */
function allocate(header: DataHeader, grant: DataGrant): DataFrame {
  const { kind, nTokens, want, hiddenSize, totalBytes } = header
  if (!grant.kinds.has(kind)) throw badFrame('kind')
  if (kind === KIND.forward || kind === KIND.result) {
    if (hiddenSize !== grant.hiddenSize) throw badFrame('hidden')
    if (nTokens > grant.maxRows || (nTokens === 0 && kind === KIND.forward)) throw badFrame('nTok')
    if (kind === KIND.forward ? want > nTokens : want !== nTokens) throw badFrame('want')
    if (totalBytes !== nTokens * hiddenSize * 4) throw badFrame('totalBytes')
  } else {
    if (nTokens !== 0 || want !== 0 || hiddenSize !== 0) throw badFrame('nTok')
    if (totalBytes > (kind === KIND.cancel ? 0 : grant.maxBytes)) throw badFrame('totalBytes')
  }
  return { header, body: new Uint8Array(totalBytes) }
}
