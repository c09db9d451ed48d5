import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { LlmNodeError } from '../base/errors.ts'
import type { LinearRole, ModelSpec, VectorRole } from '../model/spec.ts'
import type { LayerWeights, LinearWeights } from './graph-layer.ts'
import type { Weight } from './graph-nodes.ts'
import type { OnnxType } from './onnx-proto.ts'
import { declareEnds, declareLayer } from './pack.ts'
import type { RecipeId } from './recipe.ts'
import {
  parseSafetensorsHeader,
  readHeaderLength,
  type SafetensorsHeader,
  type TensorDeclaration,
  type TensorEntry,
} from './safetensors.ts'
import { isSourceDtype, type SourceDtype } from './widen.ts'

/** The tensors of a layer file, checked against the spec, as references into the file. */
export interface PackedLayer {
  readonly weights: LayerWeights
  readonly sizeBytes: number
}

export interface PackedEnds {
  readonly finalNorm: Weight
  readonly head: LinearWeights
  /** The embedding's rows, as the source has them: byte offset of row 0, and the dtype. */
  readonly embedding: { readonly dtype: SourceDtype; readonly offset: number }
  /** Bytes of final norm and head. */
  readonly headBytes: number
}

/** Throws MODEL_NOT_FOUND, MODEL_CORRUPT. */
export async function readPackedLayer(
  path: string,
  spec: ModelSpec,
  recipe: RecipeId,
  layer: number,
): Promise<PackedLayer> {
  const layerSpec = spec.layers[layer]
  if (layerSpec === undefined) throw new LlmNodeError('SPAN', `The model has no layer ${layer}.`)
  const header = await readPackedHeader(path)
  const weight = weightsOf(path, header, declareLayer(layerSpec, recipe))
  const linear = (role: LinearRole): LinearWeights => {
    const found = layerSpec.linears.find((candidate) => candidate.role === role)
    if (found === undefined) throw new LlmNodeError('INTERNAL', `Layer ${layer} has no matrix "${role}".`)
    return linearWeights(role, found.k, found.n, recipe, weight, found.bias.length > 0)
  }
  const vectors: Partial<Record<VectorRole, Weight>> = {}
  for (const { role } of layerSpec.vectors) vectors[role] = weight(role)
  const linears = { qkv: linear('qkv'), o: linear('o'), gate_up: linear('gate_up'), down: linear('down') }
  return { weights: { linears, vectors }, sizeBytes: header.fileBytes - header.headerBytes }
}

/** Throws MODEL_NOT_FOUND, MODEL_CORRUPT. */
export async function readPackedEnds(path: string, spec: ModelSpec, recipe: RecipeId): Promise<PackedEnds> {
  const header = await readPackedHeader(path)
  const dtype = header.tensors.get('embedding')?.dtype ?? 'F32'
  if (!isSourceDtype(dtype)) throw mismatch(path, 'embedding', 'BF16, F16 or F32', dtype)
  const weight = weightsOf(path, header, declareEnds(spec, recipe, dtype))
  const embedding = entryOf(path, header, 'embedding')
  return {
    finalNorm: weight('final_norm'),
    head: linearWeights('head', spec.hiddenSize, spec.vocabSize, recipe, weight, false),
    embedding: { dtype, offset: embedding.begin },
    headBytes: header.fileBytes - header.headerBytes - (embedding.end - embedding.begin),
  }
}

function linearWeights(
  role: string,
  k: number,
  n: number,
  recipe: RecipeId,
  weight: (name: string) => Weight,
  hasBias: boolean,
): LinearWeights {
  const shape = { k, n, ...(hasBias ? { bias: weight(`${role}.bias`) } : {}) }
  if (recipe === 'f32/1') return { ...shape, kind: 'f32', weight: weight(`${role}.weight`) }
  const q = weight(`${role}.q`)
  const scales = weight(`${role}.scales`)
  if (recipe === 'i8/1') return { ...shape, kind: 'i8', q, scales }
  return { ...shape, kind: 'nbits', bits: recipe === 'q4/1' ? 4 : 8, block: k / (q.dims[1] ?? 1), q, scales }
}

const onnxTypeOf: Readonly<Record<string, OnnxType>> = { F32: 'f32', U8: 'u8', I8: 'i8' }

/** Looks up tensors after checking that the file declares exactly what the spec and the recipe ask for. */
function weightsOf(path: string, header: SafetensorsHeader, declared: readonly TensorDeclaration[]) {
  const weights = new Map<string, Weight>()
  for (const { name, dtype, shape } of declared) {
    const entry = entryOf(path, header, name)
    const expected = `${dtype} [${shape.join(', ')}]`
    const found = `${entry.dtype} [${entry.shape.join(', ')}]`
    if (found !== expected) throw mismatch(path, name, expected, found)
    const type = onnxTypeOf[dtype]
    if (type === undefined) continue
    const data = { file: basename(path), offset: entry.begin, length: entry.end - entry.begin }
    weights.set(name, { type, dims: shape, data })
  }
  return (name: string): Weight => {
    const weight = weights.get(name)
    if (weight === undefined) throw new LlmNodeError('INTERNAL', `${basename(path)} was not asked for ${name}.`)
    return weight
  }
}

function entryOf(path: string, header: SafetensorsHeader, name: string): TensorEntry {
  const entry = header.tensors.get(name)
  if (entry === undefined) throw mismatch(path, name, 'a tensor', 'none')
  return entry
}

function mismatch(path: string, tensor: string, expected: string, found: string): LlmNodeError {
  const message = `${basename(path)} does not fit the model: ${tensor} should be ${expected}, but is ${found}.`
  return new LlmNodeError('MODEL_CORRUPT', message, {
    hint: 'Remove the model and fetch it again: llm-node models rm, then llm-node models pull.',
    meta: { file: basename(path), tensor },
  })
}

async function readPackedHeader(path: string): Promise<SafetensorsHeader> {
  const name = basename(path)
  const file = await open(path).catch((cause) => {
    throw new LlmNodeError('MODEL_NOT_FOUND', `${name} cannot be opened.`, {
      hint: 'Fetch the layers first: llm-node models pull.',
      cause,
    })
  })
  try {
    const { size } = await file.stat()
    const first = new Uint8Array(8)
    await file.read(first, 0, 8, 0)
    const json = new Uint8Array(readHeaderLength(first, size, name))
    await file.read(json, 0, json.length, 8)
    return parseSafetensorsHeader(json, size, name)
  } finally {
    await file.close()
  }
}
