/** Features of the families that no golden model has, against a decoder in double precision (reference-model.ts). */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createRandom } from '../../src/base/random.ts'
import { parseModelConfig } from '../../src/model/config.ts'
import { encodeSafetensorsHeader } from '../../src/shard/safetensors.ts'
import { layerSources } from '../../src/shard/survey.ts'
import { sourceBytes, widen } from '../../src/shard/widen.ts'
import { openEngine, runChain } from '../helpers/engine.ts'
import { loadModel } from '../helpers/golden.ts'
import { readF32 } from '../helpers/golden-tensors.ts'
import { type Config, type Matrix, referenceLogits, type Weights } from '../helpers/reference-model.ts'
import { tempFolder } from '../helpers/temp-folder.ts'

/** That of the golden models: largest difference as a share of the largest expected value. */
const tolerance = 2e-4

function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let [largest, apart] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i] ?? 0))
    apart = Math.max(apart, Math.abs((expected[i] ?? 0) - (actual[i] ?? Number.NaN)))
  }
  return apart / largest
}

const toMatrix = (shape: readonly number[], values: ArrayLike<number>): Matrix => ({
  rows: shape.length === 2 ? (shape[0] ?? 1) : 1,
  columns: shape.at(-1) ?? 1,
  data: Float64Array.from(values),
})

test.each([
  ['qwen3-tied-bf16', ['model.safetensors']],
  ['llama3-bf16', ['model.safetensors']],
  ['mistral-f32', ['model.safetensors']],
  ['phi3-bf16', ['model.safetensors']],
])('the reference computes what transformers computes: %s', (name, files) => {
  const folder = `tests/golden/${name}`
  const config: Config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'))
  const model = loadModel(folder, files)
  const weights: Weights = (tensor) => {
    try {
      const { dtype, bytes } = model.tensor(tensor)
      const values = new Float32Array(bytes.length / sourceBytes(dtype))
      widen(dtype, Uint8Array.from(bytes), values, tensor)
      const columns = tensor.includes('norm') || tensor.endsWith('bias') ? values.length : columnsOf(tensor)
      return toMatrix([values.length / columns, columns], values)
    } catch {
      return undefined
    }
  }
  const columnsOf = (tensor: string) => {
    if (tensor.includes('down_proj')) return model.spec.intermediateSize
    return tensor.includes('o_proj') ? model.spec.nHeads * model.spec.headDim : model.spec.hiddenSize
  }
  const { prompt_ids: ids } = JSON.parse(readFileSync(`${folder}/expected.json`, 'utf8')).cases[0]
  const expected = readF32(join(folder, 'expected.safetensors')).get('logits') ?? []
  expect(distance(referenceLogits(config, weights, ids), expected)).toBeLessThan(2e-5)
})

const common = {
  hidden_act: 'silu',
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 160,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
}
const llama = { ...common, model_type: 'llama' }
const qwen2 = { ...common, model_type: 'qwen2' }
const qwen3 = { ...common, model_type: 'qwen3', head_dim: 32 }
const mistral = { ...common, model_type: 'mistral' }
const phi3 = { ...common, model_type: 'phi3', head_dim: 32 }
const factors = (count: number, step: number) => Array.from({ length: count }, (_, i) => 1 + i * step)

const variants: readonly (readonly [string, Config])[] = [
  ['llama: rope linear', { ...llama, rope_scaling: { type: 'linear', factor: 4 } }],
  [
    'llama: rope linear, newer style',
    { ...llama, rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 5e4 } },
  ],
  [
    'llama: rope llama3, tied',
    {
      ...llama,
      tie_word_embeddings: true,
      rope_theta: 5e5,
      rope_scaling: {
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 64,
      },
    },
  ],
  [
    'llama: rope yarn',
    { ...llama, rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64 } },
  ],
  [
    'qwen3: rope yarn without rounding, with its own attention factor',
    {
      ...qwen3,
      rope_parameters: {
        rope_type: 'yarn',
        rope_theta: 1e6,
        factor: 2,
        truncate: false,
        attention_factor: 1.3,
        original_max_position_embeddings: 128,
      },
    },
  ],
  ['llama: biases everywhere', { ...llama, attention_bias: true, mlp_bias: true }],
  ['llama: one head for keys, heads of 24', { ...llama, num_key_value_heads: 1, head_dim: 24 }],
  [
    'qwen2: windows from the second layer on',
    { ...qwen2, use_sliding_window: true, sliding_window: 8, max_window_layers: 1 },
  ],
  [
    'qwen2: windows by layer, tied',
    {
      ...qwen2,
      tie_word_embeddings: true,
      use_sliding_window: true,
      sliding_window: 5,
      layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
    },
  ],
  ['qwen3: biases, heads of 24', { ...qwen3, head_dim: 24, attention_bias: true }],
  ['mistral: no window, heads of 32', { ...mistral, head_dim: 32, sliding_window: null }],
  ['phi3: a window, a part of each head turns', { ...phi3, sliding_window: 12, partial_rotary_factor: 0.75 }],
  ['phi3: heads of 24 of which 12 turn', { ...phi3, head_dim: 24, partial_rotary_factor: 0.5 }],
  ...[20, 48].map((original): [string, Config] => [
    `phi3: longrope on the ${original > 40 ? 'short' : 'long'} side, a part of each head turns`,
    {
      ...phi3,
      partial_rotary_factor: 0.75,
      original_max_position_embeddings: original,
      rope_scaling: { type: 'longrope', short_factor: factors(12, 0.05), long_factor: factors(12, 0.5) },
    },
  ]),
]

/** A folder with the model of `config` in random f32 weights, and these. */
async function writeModel(config: Config, seed: number): Promise<{ folder: string; weights: Weights }> {
  const folder = await tempFolder()
  const spec = parseModelConfig(config)
  const sources = [spec.embedding, spec.finalNorm.source, ...spec.layers.flatMap(layerSources)]
  if (!spec.tiedEmbeddings) sources.push(spec.head)
  const random = createRandom(seed)
  const tensors = sources.map(({ name, shape }) => {
    const size = shape.reduce((product, dim) => product * dim, 1)
    const [base, scale] = name.includes('norm')
      ? [1, 0.8]
      : [0, shape.length === 1 ? 0.6 : 3 / Math.sqrt(shape[1] ?? 1)]
    return { name, shape, data: Float32Array.from({ length: size }, () => base + scale * (random() / 2 ** 32 - 0.5)) }
  })
  const header = encodeSafetensorsHeader(
    tensors.map(({ name, shape }) => ({ name, dtype: 'F32' as const, shape })),
    { alignment: 8 },
  )
  const bytes = tensors.map(({ data }) => new Uint8Array(data.buffer))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  writeFileSync(join(folder, 'generation_config.json'), '{}')
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([header, ...bytes]))
  const byName = new Map(tensors.map(({ name, shape, data }) => [name, toMatrix(shape, data)]))
  return { folder, weights: (name) => byName.get(name) }
}

describe('the engine computes what the reference computes', () => {
  test.each(variants.map(([name, config], i) => [name, config, i + 1] as const))('%s', async (_, config, seed) => {
    const { folder, weights } = await writeModel(config, seed)
    const engine = await openEngine(folder, 'f32/1')
    const { nLayers, hiddenSize } = engine.model.spec
    const ids = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 160)
    const longRope =
      typeof config.original_max_position_embeddings === 'number' && config.original_max_position_embeddings < 40
    const session = engine.runner.openSession({ span: { start: 0, end: nLayers }, maxContext: 40, longRope })
    const [hidden = new Float32Array()] = await runChain([session], await engine.ends.embed(ids), hiddenSize, 40)
    expect(distance(await engine.ends.logits(hidden), referenceLogits(config, weights, ids))).toBeLessThan(tolerance)
    await engine.close()
  })
})
