/**
 * Models in llama.cpp's file format, version 3: a header of typed keys, the list of tensors, and their data, each
 * tensor aligned. Only what a Qwen3-shaped model with random weights needs. Source: docs/gguf.md of ggml.
 */
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createRandom } from '../../src/base/random.ts'
import type { ModelSpec } from '../../src/model/spec.ts'

type GgufValue =
  | { readonly kind: 'u32' | 'f32'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'strings'; readonly value: readonly string[] }

interface GgufTensor {
  readonly name: string
  /** Row-major: [rows, columns], or [length]. */
  readonly shape: readonly number[]
  readonly type: 'F32' | 'Q4_0'
}

const version = 3
const alignment = 32
const valueTypes = { u32: 4, f32: 6, string: 8, strings: 9 } as const
const tensorTypes = { F32: 0, Q4_0: 2 } as const
/** Q4_0: 32 weights as an f16 scale and 16 bytes of two each. */
const blockWeights = 32
const blockBytes = 18

/**
 * Writes a model of the shape `spec` (Qwen3, tied embeddings) with random weights: Q4_0 in every matrix, the embedding
 * (which is the head too) included; F32 norms. Its vocabulary is made up: the bytes, then numbers.
 */
export async function writeGguf(path: string, spec: ModelSpec): Promise<void> {
  if (spec.family !== 'qwen3' || !spec.tiedEmbeddings) throw new Error('only the shape of a tied Qwen3 is written')
  const tensors = declare(spec)
  const header = encodeHeader(metadataOf(spec), tensors)
  const random = createRandom(20_261_122)
  const parts = function* () {
    yield header
    for (const tensor of tensors) yield tensorData(tensor, random)
  }
  await pipeline(Readable.from(parts()), createWriteStream(path))
}

function metadataOf(spec: ModelSpec): Record<string, GgufValue> {
  const u32 = (value: number): GgufValue => ({ kind: 'u32', value })
  const f32 = (value: number): GgufValue => ({ kind: 'f32', value })
  return {
    'general.architecture': { kind: 'string', value: 'qwen3' },
    'general.name': { kind: 'string', value: 'random weights' },
    // "mostly Q4_0"
    'general.file_type': u32(2),
    'general.quantization_version': u32(2),
    'general.alignment': u32(alignment),
    'qwen3.block_count': u32(spec.nLayers),
    'qwen3.context_length': u32(spec.maxContext),
    'qwen3.embedding_length': u32(spec.hiddenSize),
    'qwen3.feed_forward_length': u32(spec.intermediateSize),
    'qwen3.attention.head_count': u32(spec.nHeads),
    'qwen3.attention.head_count_kv': u32(spec.nKvHeads),
    'qwen3.attention.key_length': u32(spec.headDim),
    'qwen3.attention.value_length': u32(spec.headDim),
    'qwen3.attention.layer_norm_rms_epsilon': f32(spec.rmsNormEps),
    'qwen3.rope.freq_base': f32(spec.rope.theta),
    'tokenizer.ggml.model': { kind: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { kind: 'string', value: 'qwen2' },
    'tokenizer.ggml.tokens': { kind: 'strings', value: vocabulary(spec.vocabSize) },
    // A loader without a single merge refuses the file.
    'tokenizer.ggml.merges': { kind: 'strings', value: ['0 0'] },
    'tokenizer.ggml.eos_token_id': u32(spec.vocabSize - 1),
  }
}

/** The 256 letters of byte-level BPE, without which a loader looks for a line feed in vain, then numbers. */
function vocabulary(size: number): string[] {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  let next = 256
  return Array.from({ length: size }, (_, id) =>
    id > 255 ? `t${id}` : String.fromCodePoint(printable(id) ? id : next++),
  )
}

function declare(spec: ModelSpec): GgufTensor[] {
  const { hiddenSize, headDim, intermediateSize } = spec
  const matrix = (name: string, rows: number, columns: number): GgufTensor => ({
    name: `${name}.weight`,
    shape: [rows, columns],
    type: 'Q4_0',
  })
  const norm = (name: string, length: number): GgufTensor => ({ name: `${name}.weight`, shape: [length], type: 'F32' })
  const layers = spec.layers.flatMap((_, i) => [
    norm(`blk.${i}.attn_norm`, hiddenSize),
    matrix(`blk.${i}.attn_q`, spec.nHeads * headDim, hiddenSize),
    matrix(`blk.${i}.attn_k`, spec.nKvHeads * headDim, hiddenSize),
    matrix(`blk.${i}.attn_v`, spec.nKvHeads * headDim, hiddenSize),
    norm(`blk.${i}.attn_q_norm`, headDim),
    norm(`blk.${i}.attn_k_norm`, headDim),
    matrix(`blk.${i}.attn_output`, hiddenSize, spec.nHeads * headDim),
    norm(`blk.${i}.ffn_norm`, hiddenSize),
    matrix(`blk.${i}.ffn_gate`, intermediateSize, hiddenSize),
    matrix(`blk.${i}.ffn_up`, intermediateSize, hiddenSize),
    matrix(`blk.${i}.ffn_down`, hiddenSize, intermediateSize),
  ])
  return [matrix('token_embd', spec.vocabSize, hiddenSize), norm('output_norm', hiddenSize), ...layers]
}

function encodeHeader(metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): Buffer {
  const parts: Buffer[] = []
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    parts.push(bytes)
  }
  const u64 = (value: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(value))
    parts.push(bytes)
  }
  const text = (value: string) => {
    const bytes = Buffer.from(value)
    u64(bytes.length)
    parts.push(bytes)
  }
  parts.push(Buffer.from('GGUF'))
  u32(version)
  u64(tensors.length)
  u64(Object.keys(metadata).length)
  for (const [key, entry] of Object.entries(metadata)) {
    text(key)
    u32(valueTypes[entry.kind])
    if (entry.kind === 'string') text(entry.value)
    else if (entry.kind === 'strings') {
      u32(valueTypes.string)
      u64(entry.value.length)
      for (const one of entry.value) text(one)
    } else if (entry.kind === 'u32') u32(entry.value)
    else parts.push(Buffer.from(Float32Array.of(entry.value).buffer))
  }
  let offset = 0
  for (const tensor of tensors) {
    text(tensor.name)
    u32(tensor.shape.length)
    // The dimension that lies together in memory comes first.
    for (const size of tensor.shape.toReversed()) u64(size)
    u32(tensorTypes[tensor.type])
    u64(offset)
    offset += aligned(dataBytes(tensor))
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([...parts, Buffer.alloc(aligned(length) - length)])
}

function dataBytes({ type, shape }: GgufTensor): number {
  const size = shape.reduce((product, dim) => product * dim, 1)
  return type === 'F32' ? 4 * size : (size / blockWeights) * blockBytes
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment
}

/** Norms around 1; in every block a scale that keeps a product about as large as its input, and random digits. */
function tensorData(tensor: GgufTensor, random: () => number): Uint8Array {
  const bytes = new Uint8Array(aligned(dataBytes(tensor)))
  if (tensor.type === 'F32') {
    new Float32Array(bytes.buffer, 0, tensor.shape[0] ?? 0).forEach((_, i, norm) => {
      norm[i] = 0.8 + (0.4 * random()) / 2 ** 32
    })
    return bytes
  }
  const columns = tensor.shape[1] ?? 1
  const scales = f16Around(1 / (4.6 * Math.sqrt(columns)))
  const words = new Uint32Array(bytes.buffer)
  for (let i = 0; i < words.length; i++) words[i] = random()
  const view = new DataView(bytes.buffer)
  const end = dataBytes(tensor)
  for (let at = 0; at < end; at += blockBytes) {
    view.setUint16(at, scales.first + (view.getUint16(at, true) % scales.count), true)
  }
  return bytes
}

/** Neighbouring f16 bit patterns, from 0.9 to 1.1 of `value` (in f16's normal range), as the first one and how many. */
function f16Around(value: number): { first: number; count: number } {
  const bits = (x: number) => {
    const exponent = Math.floor(Math.log2(x))
    return ((exponent + 15) << 10) | Math.round((x / 2 ** exponent - 1) * 1024)
  }
  const first = bits(0.9 * value)
  return { first, count: bits(1.1 * value) - first + 1 }
}
