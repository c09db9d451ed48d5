/** A Qwen3-0.6B-shaped model with random weights, different in every tensor, the same on every run. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseModelConfig } from '../../src/model/config.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { declareEnds, declareLayer } from '../../src/shard/pack.ts'
import { endsFileName, layerFileName, type RecipeId } from '../../src/shard/recipe.ts'
import type { TensorDeclaration } from '../../src/shard/safetensors.ts'
import { writeSampleWeights } from '../../src/shard/sample-weights.ts'

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
  let seed = 20_261_121
  const write = async (name: string, tensors: readonly TensorDeclaration[]) => {
    const path = join(folder, name)
    await writeSampleWeights(path, tensors, recipe, seed++)
    return path
  }
  const layerFiles: string[] = []
  for (const [i, layer] of spec.layers.entries()) {
    layerFiles.push(await write(layerFileName(i, recipe), declareLayer(layer, recipe)))
  }
  const endsFile = await write(endsFileName(recipe), declareEnds(spec, recipe, 'BF16'))
  return { spec, folder, layerFiles, endsFile }
}
