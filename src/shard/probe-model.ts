import type { ModelSpec } from '../model/spec.ts'
import type { LayerWeights, LinearWeights } from './graph-layer.ts'
import type { Weight } from './graph-nodes.ts'
import { createPackedMatrix, packRows } from './quantize.ts'
import { blockSize, type RecipeId } from './recipe.ts'

const shape = { hiddenSize: 256, nHeads: 4, nKvHeads: 2, headDim: 64, intermediateSize: 640, window: 340 }
const nLayers = 2

/** Layers with everything a layer can have: q/k norm, biases, a window smaller than the longest past. */
export function probeSpec(): ModelSpec {
  const { hiddenSize, nHeads, nKvHeads, headDim, intermediateSize, window } = shape
  const none = { name: 'probe', shape: [] }
  const vocabSize = 1
  return {
    family: 'probe',
    nLayers,
    hiddenSize,
    nHeads,
    nKvHeads,
    headDim,
    intermediateSize,
    vocabSize,
    rmsNormEps: 1e-6,
    maxContext: 400,
    rope: { theta: 10_000, rotaryDim: headDim, scaling: { type: 'default' } },
    qkNorm: true,
    tiedEmbeddings: true,
    endTokens: [],
    layers: Array.from({ length: nLayers }, () => ({ linears: [], vectors: [], slidingWindow: window })),
    embedding: none,
    finalNorm: { role: 'final_norm', length: hiddenSize, source: none },
    head: none,
  }
}

/** Known weights of one layer, packed as the recipe packs them. `random`: values in [−0.5, 0.5). */
export function probeWeights(spec: ModelSpec, recipe: RecipeId, random: () => number): LayerWeights {
  const { hiddenSize, headDim, intermediateSize } = spec
  const qWidth = spec.nHeads * headDim
  const vector = (length: number, base: number): Weight => {
    const values = Float32Array.from({ length }, () => base + 0.5 * random())
    return { type: 'f32', dims: [length], data: { bytes: bytesOf(values) } }
  }
  const linear = (k: number, n: number): LinearWeights => {
    const source = Float32Array.from({ length: k * n }, () => (4 * random()) / Math.sqrt(k))
    return probeLinear(recipe, k, n, source, vector(n, 0))
  }
  return {
    vectors: {
      attn_norm: vector(hiddenSize, 1),
      mlp_norm: vector(hiddenSize, 1),
      q_norm: vector(headDim, 1),
      k_norm: vector(headDim, 1),
    },
    linears: {
      qkv: linear(hiddenSize, qWidth + 2 * spec.nKvHeads * headDim),
      o: linear(qWidth, hiddenSize),
      gate_up: linear(hiddenSize, 2 * intermediateSize),
      down: linear(intermediateSize, hiddenSize),
    },
  }
}

/** `source`: [n, k] f32. */
export function probeLinear(
  recipe: RecipeId,
  k: number,
  n: number,
  source: Float32Array,
  bias?: Weight,
): LinearWeights {
  const matrix = createPackedMatrix(recipe, k, n, 'probe')
  packRows(matrix, 0, source, n)
  const { weight, scales } = matrix
  const extra = bias === undefined ? {} : { bias }
  const bytes = new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength)
  if (scales === null) return { kind: 'f32', k, n, ...extra, weight: { type: 'f32', dims: [k, n], data: { bytes } } }
  const scaleWeight: Weight = { type: 'f32', dims: [scales.length], data: { bytes: bytesOf(scales) } }
  if (recipe === 'i8/1') {
    return { kind: 'i8', k, n, ...extra, q: { type: 'i8', dims: [k, n], data: { bytes } }, scales: scaleWeight }
  }
  const block = blockSize(k, 'probe')
  const bits = recipe === 'q4/1' ? 4 : 8
  const q: Weight = { type: 'u8', dims: [n, k / block, (block * bits) / 8], data: { bytes } }
  return { kind: 'nbits', k, n, ...extra, bits, block, q, scales: scaleWeight }
}

export function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
