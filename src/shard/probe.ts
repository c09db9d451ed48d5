import { createHash, randomBytes } from 'node:crypto'
import { equalBytes } from '../base/bytes.ts'
import { systemClock } from '../base/clock.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createExecutor, type Executor } from './executor.ts'
import { buildSpanGraph, graphVersion } from './graph.ts'
import type { LayerWeights, LinearWeights } from './graph-layer.ts'
import type { Weight } from './graph-nodes.ts'
import { openOrt } from './ort.ts'
import { createPackedMatrix, packRows } from './quantize.ts'
import { blockSize, type RecipeId } from './recipe.ts'
import { ropeTable } from './rope.ts'

/** Part of the numerics class: a probe that asks other questions is another version. */
const probeVersion = 1
/** The only provider so far; CUDA computes other bits and will be another class. */
const provider = 'cpu'

/** One layer with everything a layer can have: q/k norm, biases, a window smaller than the longest past. */
const shape = { hiddenSize: 256, nHeads: 4, nKvHeads: 2, headDim: 64, intermediateSize: 640, window: 340 }
/** Rows of the runs whose results are the class: the kernels of prefill and decode, without a past and with one. */
const cut = [300, 64, 2]
/** The same rows, cut so that a kernel that lets rows depend on each other shows it (docs/adr/0002). */
const otherCut = [129, 1, 2, 65, 3, 100, 66]
const nRows = cut.reduce((sum, rows) => sum + rows, 0)

const classes = new Map<string, Promise<Uint8Array<ArrayBuffer>>>()

/**
 * The numerics class of this machine for a recipe: 32 bytes. Nodes of one class compute the same bits (engine.md §6):
 * SHA-256 of what was used and of what a layer of known weights made of known rows. A machine whose rows depend on how
 * they are cut gets a class that nobody shares. Computed once per process and library, in well under a second. Throws ENGINE_UNAVAILABLE or ENGINE_FAILED.
 */
export function numericsClass(recipe: RecipeId, options: { library?: string | undefined } = {}): Promise<Uint8Array> {
  const key = `${recipe} ${options.library ?? ''}`
  const known = classes.get(key) ?? probe(recipe, options.library)
  classes.set(key, known)
  // A failure may pass (memory); it is not remembered.
  known.catch(() => classes.delete(key))
  return known
}

async function probe(recipe: RecipeId, library: string | undefined): Promise<Uint8Array<ArrayBuffer>> {
  const ort = openOrt(library)
  const hash = createHash('sha256')
  hash.update(`llm-node/numerics/${probeVersion}|${ort.version}|${provider}|${recipe}|${graphVersion}\0`)
  const spec = probeSpec()
  const random = createRandom(0x9e3779b9)
  const weights = probeWeights(spec, recipe, random)
  const span = { start: 0, end: 1 }
  const graph = await ort.createSession(buildSpanGraph({ spec, recipe, span, weights: () => weights }), { threads: 1 })
  const executor = createExecutor({ spec, recipe, span, threads: 1 }, { ort, graph, clock: systemClock })
  try {
    const input = Float32Array.from({ length: nRows * spec.hiddenSize }, () => 2 * random())
    const result = bytesOf(await runCut(executor, spec.hiddenSize, input, cut))
    hash.update(result)
    const again = bytesOf(await runCut(executor, spec.hiddenSize, input, otherCut))
    // Rows that depend on their neighbours: this machine agrees with nobody, not even with itself.
    if (!equalBytes(result, again)) hash.update(randomBytes(32))
  } finally {
    executor.release()
    graph.release()
  }
  // The language's own sine and cosine are part of what has to agree.
  const { cos, sin } = ropeTable(spec.rope, 'short', 4_096)
  hash.update(bytesOf(cos)).update(bytesOf(sin))
  return new Uint8Array(hash.digest())
}

/** All rows through a session of its own, in runs of the given sizes. */
async function runCut(
  executor: Executor,
  hiddenSize: number,
  input: Float32Array,
  sizes: readonly number[],
): Promise<Float32Array> {
  const session = executor.openSession({ start: 0, end: 1 }, nRows + 1, 'short')
  const output = new Float32Array(input.length)
  let pos = 0
  try {
    for (const nTokens of sizes) {
      const hidden = input.subarray(pos * hiddenSize, (pos + nTokens) * hiddenSize)
      const [rows = new Float32Array()] = await executor.run([{ session, pos, nTokens, hidden }])
      output.set(rows, pos * hiddenSize)
      pos += nTokens
    }
    return output
  } finally {
    session.release()
  }
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** xorshift32, scaled to [−0.5, 0.5): the same values on every machine. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32 - 0.5
  }
}

function probeSpec(): ModelSpec {
  const { hiddenSize, nHeads, nKvHeads, headDim, intermediateSize, window } = shape
  const none = { name: 'probe', shape: [] }
  const vocabSize = 1
  return {
    family: 'probe',
    nLayers: 1,
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
    layers: [{ linears: [], vectors: [], slidingWindow: window }],
    embedding: none,
    finalNorm: { role: 'final_norm', length: hiddenSize, source: none },
    head: none,
  }
}

function probeWeights(spec: ModelSpec, recipe: RecipeId, random: () => number): LayerWeights {
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

function probeLinear(recipe: RecipeId, k: number, n: number, source: Float32Array, bias: Weight): LinearWeights {
  const matrix = createPackedMatrix(recipe, k, n, 'probe')
  packRows(matrix, 0, source, n)
  const { weight, scales } = matrix
  const bytes = new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength)
  if (scales === null) return { kind: 'f32', k, n, bias, weight: { type: 'f32', dims: [k, n], data: { bytes } } }
  const scaleWeight: Weight = { type: 'f32', dims: [scales.length], data: { bytes: bytesOf(scales) } }
  if (recipe === 'i8/1') {
    return { kind: 'i8', k, n, bias, q: { type: 'i8', dims: [k, n], data: { bytes } }, scales: scaleWeight }
  }
  const block = blockSize(k, 'probe')
  const bits = recipe === 'q4/1' ? 4 : 8
  const q: Weight = { type: 'u8', dims: [n, k / block, (block * bits) / 8], data: { bytes } }
  return { kind: 'nbits', k, n, bias, bits, block, q, scales: scaleWeight }
}
