import { createHash } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { encodeSafetensorsHeader } from '../shard/safetensors.ts'

/** An f32 tensor, row-major. */
export interface NamedTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly data: Float32Array
}

const inByteOrder = (tensors: readonly NamedTensor[]) =>
  [...tensors].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))

const bytesOf = ({ data }: NamedTensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

/** SHA-256 over all tensors, names in byte order: name | raw little-endian bytes. Hexadecimal. */
export function digestTensors(tensors: readonly NamedTensor[]): string {
  const hash = createHash('sha256')
  for (const tensor of inByteOrder(tensors)) hash.update(tensor.name).update(bytesOf(tensor))
  return hash.digest('hex')
}

/** Writes a safetensors file of F32 tensors; a reader sees all of it or nothing. */
export async function writeTensors(path: string, tensors: readonly NamedTensor[]): Promise<void> {
  const ordered = inByteOrder(tensors)
  const declared = ordered.map(({ name, shape }) => ({ name, dtype: 'F32' as const, shape }))
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w')
  try {
    await file.writeFile(encodeSafetensorsHeader(declared, { alignment: 8 }))
    for (const tensor of ordered) await file.writeFile(bytesOf(tensor))
    await file.close()
    await rename(temporary, path)
  } catch (error) {
    await file.close().catch(() => {})
    await rm(temporary, { force: true })
    throw error
  }
}
