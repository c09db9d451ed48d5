import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createRandom } from '../../src/base/random.ts'
import { parseModelConfig } from '../../src/model/config.ts'
import type { ModelSpec, TensorSource } from '../../src/model/spec.ts'
import { encodeSafetensorsHeader, type TensorDeclaration } from '../../src/shard/safetensors.ts'

/** The shape of a Qwen3 model; the other fields of config.json follow. */
export interface ModelShape {
  readonly nLayers: number
  readonly hiddenSize: number
  readonly nHeads: number
  readonly nKvHeads: number
  readonly headDim: number
  readonly intermediateSize: number
  readonly vocabSize: number
  readonly maxContext: number
}

/**
 * Writes a stock repository folder (config.json, model.safetensors in BF16) with random weights: other ones in every
 * layer and tensor, always the same ones for a shape. Resolves with the number of parameters.
 */
export async function writeRandomModel(folder: string, shape: ModelShape): Promise<number> {
  await mkdir(folder, { recursive: true })
  const config = configOf(shape)
  await writeFile(join(folder, 'config.json'), JSON.stringify(config, null, 2))
  const declarations = declare(parseModelConfig(config))
  const file = createWriteStream(join(folder, 'model.safetensors'))
  file.write(encodeSafetensorsHeader(declarations, { alignment: 8 }))
  let parameters = 0
  const random = createRandom(0x9e3779b9)
  for (const { shape: dims } of declarations) {
    const size = dims.reduce((product, dim) => product * dim, 1)
    parameters += size
    if (!file.write(dims.length === 1 ? ones(size) : gaussian(size, 1 / Math.sqrt(dims[1] ?? 1), random))) {
      await once(file, 'drain')
    }
  }
  file.end()
  await once(file, 'close')
  return parameters
}

function configOf(shape: ModelShape): Record<string, unknown> {
  return {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    hidden_act: 'silu',
    attention_bias: false,
    num_hidden_layers: shape.nLayers,
    hidden_size: shape.hiddenSize,
    num_attention_heads: shape.nHeads,
    num_key_value_heads: shape.nKvHeads,
    head_dim: shape.headDim,
    intermediate_size: shape.intermediateSize,
    vocab_size: shape.vocabSize,
    max_position_embeddings: shape.maxContext,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
    eos_token_id: 0,
  }
}

function declare(spec: ModelSpec): TensorDeclaration[] {
  const sources: TensorSource[] = [
    spec.embedding,
    spec.finalNorm.source,
    ...spec.layers.flatMap((layer) => [
      ...layer.vectors.map((vector) => vector.source),
      ...layer.linears.flatMap((linear) => linear.weight),
    ]),
  ]
  return sources.map(({ name, shape }) => ({ name, dtype: 'BF16', shape }))
}

/** BF16, near to normal (four uniform summands), as the high halves of f32. */
function gaussian(size: number, deviation: number, random: () => number): Uint8Array {
  const values = new Float32Array(size)
  const scale = (deviation * Math.sqrt(3)) / 2 ** 17
  for (let i = 0; i < size; i++) {
    const bits = random()
    const more = random()
    const sum = (bits & 0xffff) + (bits >>> 16) + (more & 0xffff) + (more >>> 16) - 2 * 0xffff
    values[i] = sum * scale
  }
  return toBf16(values)
}

function ones(size: number): Uint8Array {
  return toBf16(new Float32Array(size).fill(1))
}

function toBf16(values: Float32Array): Uint8Array {
  const halves = new Uint16Array(values.length)
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < words.length; i++) halves[i] = (words[i] ?? 0) >>> 16
  return new Uint8Array(halves.buffer)
}
