import { createHash } from 'node:crypto'
import { createByteWriter, toHex, utf8 } from '../base/bytes.ts'

/** One file's part in a model id: a config.json or an index whole, of a weight file its length and JSON header. */
export interface IdentityPart {
  readonly name: string
  readonly bytes: Uint8Array
}

/**
 * The model id (engine.md §2), 32 bytes as hex: SHA-256 of "llm-node/model/1", then for config.json, the index where
 * there is one, and each weight file by name in byte order: u16 nameLen | name | u64 len | bytes, big-endian.
 */
export function computeModelId(
  config: IdentityPart,
  index: IdentityPart | null,
  weightFiles: readonly IdentityPart[],
): string {
  const hash = createHash('sha256').update('llm-node/model/1')
  const ordered = [...weightFiles].sort((a, b) => compareBytes(a.name, b.name))
  for (const { name, bytes } of [config, ...(index ? [index] : []), ...ordered]) {
    const nameBytes = utf8(name)
    hash.update(createByteWriter().u16(nameBytes.length).bytes(nameBytes).u64(bytes.length).finish()).update(bytes)
  }
  return hash.digest('hex')
}

/** One tensor of a layer; its raw source bytes may come in several pieces, in order. */
export interface DigestTensor {
  readonly name: string
  readonly pieces: Iterable<Uint8Array>
}

/**
 * The layer digest (engine.md §2), 4 bytes as hex: SHA-256 over the layer's tensors in byte order of name:
 * name | 0x00 | raw source bytes. Holders of the same layer compare it.
 */
export function computeLayerDigest(tensors: readonly DigestTensor[]): string {
  const hash = createHash('sha256')
  for (const { name, pieces } of [...tensors].sort((a, b) => compareBytes(a.name, b.name))) {
    hash.update(name).update(Uint8Array.of(0))
    for (const piece of pieces) hash.update(piece)
  }
  return toHex(hash.digest().subarray(0, 4))
}

/** Byte order of UTF-8, which is not the order of JavaScript's strings beyond the basic plane. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(utf8(a), utf8(b))
}
