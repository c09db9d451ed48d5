import { fromUtf8, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { findRepeatedKey } from './json-keys.ts'

/** Bytes per value, for the dtypes of the safetensors format that have whole bytes. */
const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
} as const

export type TensorDtype = keyof typeof dtypeBytes

/** One tensor of a file. `begin` and `end` are byte offsets in the file itself, not in its data part. */
export interface TensorEntry {
  readonly name: string
  readonly dtype: TensorDtype
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

export interface SafetensorsHeader {
  /** 8 bytes of length and the JSON: where the data begins. */
  readonly headerBytes: number
  /** Whole length of the file. */
  readonly fileBytes: number
  readonly tensors: ReadonlyMap<string, TensorEntry>
}

/** What a file is to hold, in the order of its data. */
export interface TensorDeclaration {
  readonly name: string
  readonly dtype: TensorDtype
  readonly shape: readonly number[]
}

export function tensorBytes(dtype: TensorDtype, shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, dtypeBytes[dtype])
}

/**
 * The length of the JSON header from a file's first 8 bytes (u64, little-endian). `fileBytes`: the file's length.
 * Throws MODEL_CORRUPT.
 */
export function readHeaderLength(first8: Uint8Array, fileBytes: number, file: string): number {
  if (first8.length < 8 || fileBytes < 8) throw corrupt(file, 'it is shorter than its header')
  const length = new DataView(first8.buffer, first8.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(downloadLimits.headerBytes)) throw corrupt(file, `its header claims ${length} bytes`)
  if (length < 2n || Number(length) > fileBytes - 8) throw corrupt(file, 'its header does not fit into the file')
  return Number(length)
}

/**
 * Parses the JSON header (without its 8 bytes of length) strictly: no duplicate keys, known dtypes, offsets contiguous
 * from 0 to the end of the file, product of dims = bytes. Throws MODEL_CORRUPT or, for a dtype, MODEL_UNSUPPORTED,
 * naming file and tensor.
 */
export function parseSafetensorsHeader(json: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  if (json[0] !== 0x7b) throw corrupt(file, 'its header does not begin with {')
  const headerBytes = 8 + json.length
  const tensors = new Map<string, TensorEntry>()
  for (const [name, value] of Object.entries(parseStrictJson(json, file))) {
    if (name === '__metadata__') assertMetadata(value, file)
    else tensors.set(name, parseEntry(name, value, headerBytes, fileBytes, file))
  }
  const ordered = [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)
  let at = headerBytes
  for (const { name, begin, end } of ordered) {
    if (begin !== at) throw corrupt(file, `tensor ${name} begins at ${begin - headerBytes}, not at ${at - headerBytes}`)
    at = end
  }
  if (at !== fileBytes) throw corrupt(file, `its tensors end at byte ${at}, the file at ${fileBytes}`)
  return { headerBytes, fileBytes, tensors }
}

/**
 * The 8 bytes of length and the JSON header of a file holding `tensors` in this order, padded with spaces so that the
 * data begins at a multiple of `alignment`.
 */
export function encodeSafetensorsHeader(
  tensors: readonly TensorDeclaration[],
  options: { alignment: number; metadata?: Readonly<Record<string, string>> },
): Uint8Array<ArrayBuffer> {
  const entries: [string, unknown][] = options.metadata ? [['__metadata__', options.metadata]] : []
  let at = 0
  for (const { name, dtype, shape } of tensors) {
    const end = at + tensorBytes(dtype, shape)
    entries.push([name, { dtype, shape, data_offsets: [at, end] }])
    at = end
  }
  const json = utf8(JSON.stringify(Object.fromEntries(entries)))
  const total = Math.ceil((8 + json.length) / options.alignment) * options.alignment
  const bytes = new Uint8Array(total).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(total - 8), true)
  bytes.set(json, 8)
  return bytes
}

function parseStrictJson(json: Uint8Array, file: string): Record<string, unknown> {
  let text: string
  let value: unknown
  try {
    text = fromUtf8(json)
    value = JSON.parse(text)
  } catch (cause) {
    throw corrupt(file, 'its header is not JSON', cause)
  }
  const repeated = findRepeatedKey(text)
  if (repeated !== null) throw corrupt(file, `its header names ${JSON.stringify(repeated)} twice`)
  return value as Record<string, unknown>
}

function assertMetadata(value: unknown, file: string): void {
  const isText = (entry: unknown) => typeof entry === 'string'
  if (!isObject(value) || !Object.values(value).every(isText)) {
    throw corrupt(file, '__metadata__ holds something other than text')
  }
}

function parseEntry(name: string, value: unknown, headerBytes: number, fileBytes: number, file: string): TensorEntry {
  if (!isObject(value) || Object.keys(value).sort().join() !== 'data_offsets,dtype,shape') {
    throw corrupt(file, `tensor ${name} does not have exactly dtype, shape and data_offsets`)
  }
  const { dtype, shape, data_offsets: offsets } = value
  if (!isDtype(dtype)) {
    throw new LlmNodeError(
      'MODEL_UNSUPPORTED',
      `${file}: tensor ${name} has the unknown dtype ${JSON.stringify(dtype)}.`,
    )
  }
  if (!isWholeList(shape) || shape.length > 8) throw corrupt(file, `tensor ${name} has a bad shape`)
  if (!isWholeList(offsets) || offsets.length !== 2) throw corrupt(file, `tensor ${name} has bad data_offsets`)
  const [begin = 0, end = 0] = offsets
  if (begin > end || end > fileBytes - headerBytes) throw corrupt(file, `tensor ${name} lies outside the file`)
  const bytes = tensorBytes(dtype, shape)
  if (bytes !== end - begin) {
    throw corrupt(file, `tensor ${name} [${shape.join(', ')}] ${dtype} has ${end - begin} bytes, not ${bytes}`)
  }
  return { name, dtype, shape, begin: headerBytes + begin, end: headerBytes + end }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isDtype(value: unknown): value is TensorDtype {
  return typeof value === 'string' && Object.hasOwn(dtypeBytes, value)
}

function isWholeList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
}

function corrupt(file: string, why: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('MODEL_CORRUPT', `${file} is not a sound safetensors file: ${why}.`, {
    hint: 'Check that the source is the one you meant; a damaged copy has to be replaced there.',
    meta: { file },
    ...(cause === undefined ? {} : { cause }),
  })
}
