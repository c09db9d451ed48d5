/** A Qwen3-0.6B-shaped model with random weights, different in every tensor, the same on every run. */
import { createWriteStream, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseModelConfig } from '../../src/model/config.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { declareEnds, declareLayer, packedAlignment } from '../../src/shard/pack.ts'
import { endsFileName, layerFileName, type RecipeId } from '../../src/shard/recipe.ts'
import { encodeSafetensorsHeader, type TensorDeclaration, tensorBytes } from '../../src/shard/safetensors.ts'
import { createRandom } from './random.ts'

export interface BenchModel {
  readonly spec: ModelSpec
  readonly folder: string
  readonly layerFiles: readonly string[]
  readonly endsFile: string
}

const config = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  hidden_size: 1024,
  intermediate_size: 3072,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 151_936,
  max_position_embeddings: 40_960,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  hidden_act: 'silu',
  attention_bias: false,
  tie_word_embeddings: true,
}

/** The caller removes `folder`. */
export async function createBenchModel(recipe: RecipeId): Promise<BenchModel> {
  const spec = parseModelConfig(config)
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-bench-'))
  const random = createRandom(20_261_121)
  const write = async (name: string, tensors: readonly TensorDeclaration[]) => {
    const path = join(folder, name)
    const header = encodeSafetensorsHeader(tensors, { alignment: packedAlignment, metadata: { recipe } })
    const parts = function* () {
      yield header
      for (const tensor of tensors) yield values(tensor, recipe, random)
    }
    await pipeline(Readable.from(parts()), createWriteStream(path))
    return path
  }
  const layerFiles: string[] = []
  for (const [i, layer] of spec.layers.entries()) {
    layerFiles.push(await write(layerFileName(i, recipe), declareLayer(layer, recipe)))
  }
  const endsFile = await write(endsFileName(recipe), declareEnds(spec, recipe, 'BF16'))
  return { spec, folder, layerFiles, endsFile }
}

/** Norms around 1, scales that keep a product about as large as its input, integers of the whole range. */
function values(tensor: TensorDeclaration, recipe: RecipeId, random: () => number): Uint8Array {
  const bytes = new Uint8Array(tensorBytes(tensor.dtype, tensor.shape))
  if (tensor.dtype !== 'F32') {
    const words = new Uint32Array(bytes.buffer, 0, bytes.length >> 2)
    // BF16 bit patterns with an exponent around 1: small finite numbers.
    const mask = tensor.dtype === 'BF16' ? 0x80ff80ff : 0xffffffff
    const base = tensor.dtype === 'BF16' ? 0x3c003c00 : 0
    for (let i = 0; i < words.length; i++) words[i] = (random() & mask) | base
    if (tensor.dtype === 'I8') for (let i = 0; i < bytes.length; i++) if (bytes[i] === 128) bytes[i] = 129
    return bytes
  }
  const floats = new Float32Array(bytes.buffer)
  const isScale = tensor.name.endsWith('.scales')
  const unit = recipe === 'i8/1' ? 1 / 73 / 32 : 1 / 4.6 / 32
  for (let i = 0; i < floats.length; i++) {
    const share = random() / 2 ** 32
    floats[i] = isScale ? unit * (0.9 + 0.2 * share) : 0.8 + 0.4 * share
  }
  return bytes
}
