import { readFileSync } from 'node:fs'
import { parseSafetensorsHeader } from '../../src/shard/safetensors.ts'

/** The F32 tensors of a safetensors file, by name. */
export function readF32(path: string): ReadonlyMap<string, Float32Array> {
  const bytes = readFileSync(path)
  const json = bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE()))
  const tensors = new Map<string, Float32Array>()
  for (const { name, dtype, begin, end } of parseSafetensorsHeader(json, bytes.length, path).tensors.values()) {
    if (dtype === 'F32') tensors.set(name, new Float32Array(Uint8Array.from(bytes.subarray(begin, end)).buffer))
  }
  return tensors
}
