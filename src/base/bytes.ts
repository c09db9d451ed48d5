import { LlmNodeError } from './errors.ts'

const textEncoder = new TextEncoder()
const strictTextDecoder = new TextDecoder('utf-8', { fatal: true })

export function utf8(text: string): Uint8Array {
  return textEncoder.encode(text)
}

/** Throws a TypeError on bytes that are not UTF-8. */
export function fromUtf8(bytes: Uint8Array): string {
  return strictTextDecoder.decode(bytes)
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let length = 0
  for (const part of parts) length += part.length
  const joined = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    joined.set(part, offset)
    offset += part.length
  }
  return joined
}

/** Not constant-time: for public bytes only. Secrets are compared in src/onion. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  if (!/^([0-9a-f]{2})*$/i.test(hex)) throw new LlmNodeError('BAD_INPUT', 'This is not a hexadecimal string.')
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}

/** Big-endian writer of fixed-layout records. */
export interface ByteWriter {
  u8(value: number): ByteWriter
  u16(value: number): ByteWriter
  u32(value: number): ByteWriter
  u64(value: bigint | number): ByteWriter
  bytes(value: Uint8Array): ByteWriter
  finish(): Uint8Array<ArrayBuffer>
}

export function createByteWriter(): ByteWriter {
  const parts: Uint8Array[] = []
  const fixed = (size: 1 | 2 | 4, value: number) => {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * size)) {
      throw new LlmNodeError('INTERNAL', `${value} does not fit into ${size} bytes.`)
    }
    const buffer = Buffer.alloc(size)
    buffer.writeUIntBE(value, 0, size)
    parts.push(buffer)
    return writer
  }
  const writer: ByteWriter = {
    u8: (value) => fixed(1, value),
    u16: (value) => fixed(2, value),
    u32: (value) => fixed(4, value),
    u64(value) {
      const buffer = Buffer.alloc(8)
      buffer.writeBigUInt64BE(BigInt(value))
      parts.push(buffer)
      return writer
    },
    bytes(value) {
      parts.push(value)
      return writer
    },
    finish: () => concatBytes(...parts),
  }
  return writer
}

/** Big-endian reader that checks every length before it reads; `what` names the record in errors. */
export interface ByteReader {
  readonly remaining: number
  u8(field: string): number
  u16(field: string): number
  u32(field: string): number
  u64(field: string): bigint
  /** A copy of the next `length` bytes. */
  bytes(length: number, field: string): Uint8Array<ArrayBuffer>
  /** Throws unless everything has been read. */
  end(): void
}

export function createByteReader(source: Uint8Array, what: string): ByteReader {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength)
  let offset = 0
  const take = (length: number, field: string) => {
    if (offset + length > source.length) {
      throw new LlmNodeError('BAD_RECORD', `${what}: ${field} is cut off.`, { meta: { field, length } })
    }
    const at = offset
    offset += length
    return at
  }
  return {
    get remaining() {
      return source.length - offset
    },
    u8: (field) => view.getUint8(take(1, field)),
    u16: (field) => view.getUint16(take(2, field)),
    u32: (field) => view.getUint32(take(4, field)),
    u64: (field) => view.getBigUint64(take(8, field)),
    bytes(length, field) {
      const at = take(length, field)
      // Not slice(): that of a Buffer is no copy.
      return new Uint8Array(source.subarray(at, at + length))
    },
    end() {
      if (offset !== source.length) {
        throw new LlmNodeError('BAD_RECORD', `${what}: ${source.length - offset} bytes too many.`)
      }
    },
  }
}
