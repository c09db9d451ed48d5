import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModelSpec } from '../../src/model/spec.ts'
import { declareEnds, packHeadRows, packLayer, packVector } from '../../src/shard/pack.ts'
import { endsFileName, layerFileName, type RecipeId } from '../../src/shard/recipe.ts'
import { encodeSafetensorsHeader, tensorBytes } from '../../src/shard/safetensors.ts'
import { type LoadedModel, loadModel } from './golden.ts'

/** A model packed into files, as the download leaves it. The caller removes `folder`. */
export interface PackedModel {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly folder: string
  readonly layerFiles: readonly string[]
  readonly endsFile: string
}

/** Packs a repository folder (config.json, *.safetensors) into a new temporary folder, without the download. */
export function packModel(source: string, recipe: RecipeId): PackedModel {
  const files = readdirSync(source).filter((name) => /^model.*\.safetensors$/.test(name))
  return packLoaded(loadModel(source, files), recipe)
}

function packLoaded(model: LoadedModel, recipe: RecipeId): PackedModel {
  const { spec, tensor } = model
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-packed-'))
  const layerFiles = spec.layers.map((layer, i) => {
    const path = join(folder, layerFileName(i, recipe))
    const { header, parts } = packLayer(layer, recipe, tensor)
    writeFileSync(path, Buffer.concat([header, ...parts]))
    return path
  })
  const endsFile = join(folder, endsFileName(recipe))
  writeFileSync(endsFile, packEnds(model, recipe))
  return { spec, recipe, folder, layerFiles, endsFile }
}

function packEnds({ spec, tensor }: LoadedModel, recipe: RecipeId): Uint8Array {
  const embedding = tensor(spec.embedding.name)
  const declared = declareEnds(spec, recipe, embedding.dtype)
  const header = encodeSafetensorsHeader(declared, { alignment: 4096, metadata: { recipe } })
  const data = new Map(declared.map(({ name, dtype, shape }) => [name, new Uint8Array(tensorBytes(dtype, shape))]))
  data.get('embedding')?.set(embedding.bytes)
  data.get('final_norm')?.set(packVector([spec.finalNorm.source], spec.finalNorm.length, tensor))
  const head = spec.tiedEmbeddings ? spec.embedding : spec.head
  for (const write of packHeadRows(spec, recipe, 0, tensor(head.name))) {
    const target = data.get(write.tensor)
    for (let i = 0; i * write.runBytes < write.bytes.length; i++) {
      target?.set(write.bytes.subarray(i * write.runBytes, (i + 1) * write.runBytes), write.offset + i * write.stride)
    }
  }
  return Buffer.concat([header, ...declared.map(({ name }) => data.get(name) ?? new Uint8Array())])
}
