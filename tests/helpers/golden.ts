import { readFileSync } from 'node:fs'
import { parseModelConfig } from '../../src/model/config.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import type { SourceTensor } from '../../src/shard/pack.ts'
import { parseSafetensorsHeader } from '../../src/shard/safetensors.ts'
import { isSourceDtype } from '../../src/shard/widen.ts'

export const demoFolder = 'models/demo-qwen3'
export const demoFiles = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']

export interface LoadedModel {
  readonly spec: ModelSpec
  /** Whole files in memory, read without the code under test's download path. */
  tensor(name: string): SourceTensor
}

export function loadModel(folder: string, files: readonly string[]): LoadedModel {
  const read = (file: string): unknown => JSON.parse(readFileSync(`${folder}/${file}`, 'utf8'))
  const tensors = new Map<string, SourceTensor>()
  for (const file of files) {
    const bytes = readFileSync(`${folder}/${file}`)
    const json = bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE()))
    for (const { name, dtype, begin, end } of parseSafetensorsHeader(json, bytes.length, file).tensors.values()) {
      if (isSourceDtype(dtype)) tensors.set(name, { dtype, bytes: bytes.subarray(begin, end) })
    }
  }
  return {
    spec: parseModelConfig(read('config.json'), read('generation_config.json')),
    tensor(name) {
      const tensor = tensors.get(name)
      if (!tensor) throw new Error(`no tensor ${name}`)
      return tensor
    },
  }
}
