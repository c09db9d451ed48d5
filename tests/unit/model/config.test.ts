import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { parseModelConfig } from '../../../src/model/config.ts'
import type { LayerSpec, LinearRole } from '../../../src/model/spec.ts'

type Json = Record<string, unknown>

function load(name: string): { config: Json; generation: Json } {
  const read = (file: string): Json => JSON.parse(readFileSync(`tests/golden/${name}/${file}`, 'utf8'))
  return { config: read('config.json'), generation: read('generation_config.json') }
}

function parseGolden(name: string) {
  const { config, generation } = load(name)
  return parseModelConfig(config, generation)
}

function layerOf(layers: readonly LayerSpec[], index: number): LayerSpec {
  const layer = layers[index]
  if (!layer) throw new Error(`no layer ${index}`)
  return layer
}

function linearOf(layer: LayerSpec, role: LinearRole) {
  const linear = layer.linears.find((one) => one.role === role)
  if (!linear) throw new Error(`no ${role}`)
  return linear
}

/** name → shape of everything the spec wants. */
function wanted(spec: ReturnType<typeof parseModelConfig>): Map<string, string> {
  const sources = [spec.embedding, spec.finalNorm.source, ...(spec.tiedEmbeddings ? [] : [spec.head])]
  for (const { linears, vectors } of spec.layers) {
    sources.push(...vectors.map(({ source }) => source), ...linears.flatMap(({ weight, bias }) => [...weight, ...bias]))
  }
  return new Map(sources.map(({ name, shape }) => [name, shape.join()]))
}

/** name → shape of everything stored, but the inv_freq tensors that no engine needs. */
function stored(folder: string, files: string[]): Map<string, string> {
  const found = new Map<string, string>()
  for (const file of files) {
    const bytes = readFileSync(`${folder}/${file}`)
    const header: Record<string, { shape: number[] }> = JSON.parse(
      bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString(),
    )
    for (const [name, { shape }] of Object.entries(header)) {
      if (name !== '__metadata__' && !name.endsWith('inv_freq')) found.set(name, shape.join())
    }
  }
  return found
}

const single = ['model.safetensors']
const goldens: [name: string, files: string[]][] = [
  ['qwen3-tied-bf16', single],
  ['qwen3-sharded-f32', [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`)],
  ['llama3-bf16', single],
  ['llama-mha-f16', single],
  ['phi3-bf16', single],
  ['phi3-longrope-f16', single],
  ['qwen2-bf16', single],
  ['mistral-f32', single],
]

test.each(goldens)('the spec of %s wants exactly the tensors that the files hold', (name, files) => {
  expect(wanted(parseGolden(name))).toEqual(stored(`tests/golden/${name}`, files))
})

describe('families', () => {
  test('qwen3: explicit head size, q/k norms, rope in both config styles', () => {
    const spec = parseGolden('qwen3-tied-bf16')
    expect(spec).toMatchObject({
      family: 'qwen3',
      nLayers: 4,
      headDim: 32,
      nKvHeads: 2,
      qkNorm: true,
      tiedEmbeddings: true,
      endTokens: [305, 303],
      rope: { theta: 1_000_000, rotaryDim: 32, scaling: { type: 'default' } },
    })
    const layer = layerOf(spec.layers, 1)
    expect(linearOf(layer, 'qkv')).toMatchObject({ k: 64, n: 256, bias: [] })
    expect(linearOf(layer, 'o')).toMatchObject({ k: 128, n: 64 })
    expect(linearOf(layer, 'gate_up')).toMatchObject({ k: 64, n: 192 })
    expect(layer.vectors.map(({ role }) => role)).toEqual(['attn_norm', 'mlp_norm', 'q_norm', 'k_norm'])
    expect(layer.slidingWindow).toBeNull()
    expect(parseGolden('qwen3-sharded-f32').rope.theta).toBe(1_000_000)
  })

  test('qwen3: a head size that is absent is 128, one that is null is hidden / heads', () => {
    const { config } = load('qwen3-tied-bf16')
    const { head_dim: _, ...silent } = config
    expect(parseModelConfig(silent).headDim).toBe(128)
    expect(parseModelConfig({ ...config, head_dim: null }).headDim).toBe(16)
  })

  test('qwen2: biases on q, k, v only; the window counts only when switched on, from max_window_layers on', () => {
    const { config } = load('qwen2-bf16')
    const layer = layerOf(parseModelConfig(config).layers, 0)
    expect(linearOf(layer, 'qkv').bias).toHaveLength(3)
    expect(linearOf(layer, 'o').bias).toHaveLength(0)
    const windows = (extra: Json) => parseModelConfig({ ...config, ...extra }).layers.map((one) => one.slidingWindow)
    expect(windows({})).toEqual([null, null, null, null])
    expect(windows({ use_sliding_window: true, max_window_layers: 3 })).toEqual([null, null, null, 40])
    const types = ['sliding_attention', 'full_attention', 'full_attention', 'sliding_attention']
    expect(windows({ use_sliding_window: true, layer_types: types })).toEqual([40, null, null, 40])
  })

  test('llama: rope type llama3, no theta means 10000, biases by flag, windows ignored', () => {
    expect(parseGolden('llama3-bf16').rope.scaling).toEqual({
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPosition: 64,
    })
    const { config } = load('llama-mha-f16')
    expect(parseModelConfig(config).rope).toEqual({ theta: 10_000, rotaryDim: 24, scaling: { type: 'default' } })
    const biased = parseModelConfig({ ...config, attention_bias: true, mlp_bias: true, sliding_window: 7 })
    expect(layerOf(biased.layers, 0).linears.map(({ bias }) => bias.length)).toEqual([3, 1, 2, 1])
    expect(layerOf(biased.layers, 0).slidingWindow).toBeNull()
  })

  test('mistral: a window in every layer, 4096 when absent, none when null', () => {
    const { config } = load('mistral-f32')
    const { sliding_window: _, ...silent } = config
    expect(parseModelConfig(config).layers.map((layer) => layer.slidingWindow)).toEqual([48, 48, 48])
    expect(layerOf(parseModelConfig(silent).layers, 0).slidingWindow).toBe(4_096)
    expect(layerOf(parseModelConfig({ ...config, sliding_window: null }).layers, 0).slidingWindow).toBeNull()
  })

  test('phi3: fused tensors, longrope from the top-level original length, partial rotation', () => {
    const { config } = load('phi3-longrope-f16')
    const spec = parseModelConfig(config)
    expect(linearOf(layerOf(spec.layers, 0), 'qkv').weight).toEqual([
      { name: 'model.layers.0.self_attn.qkv_proj.weight', shape: [192, 64] },
    ])
    expect(spec.rope.scaling).toMatchObject({ type: 'longrope', originalMaxPosition: 128 })
    // sqrt(1 + ln(1024 / 128) / ln(128)) by hand.
    expect(spec.rope.scaling).toHaveProperty('attentionFactor', Math.sqrt(1 + 3 / 7))
    const partial = { ...config, rope_scaling: null, partial_rotary_factor: 0.75 }
    expect(parseModelConfig(partial).rope.rotaryDim).toBe(12)
    expect(layerOf(spec.layers, 0).slidingWindow).toBe(1_024)
  })

  test('yarn: without an original length the whole context, attention factor 0.1 ln(factor) + 1', () => {
    const { config } = load('qwen2-bf16')
    const spec = parseModelConfig({ ...config, rope_scaling: { type: 'yarn', factor: 4 } })
    expect(spec.rope.scaling).toEqual({
      type: 'yarn',
      factor: 4,
      originalMaxPosition: 2_048,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      attentionFactor: 0.1 * Math.log(4) + 1,
    })
    const linear = { rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 500 } }
    expect(parseModelConfig({ ...config, ...linear }).rope).toMatchObject({
      theta: 500,
      scaling: { type: 'linear', factor: 2 },
    })
  })
})

describe('what is refused, naming the field', () => {
  const cases: [field: string, base: string, change: Json][] = [
    ['model_type', 'qwen3-tied-bf16', { model_type: 'gemma3_text' }],
    ['architectures', 'qwen3-tied-bf16', { architectures: ['Qwen3ForSequenceClassification'] }],
    ['hidden_act', 'llama3-bf16', { hidden_act: 'gelu' }],
    ['quantization_config', 'llama3-bf16', { quantization_config: { quant_method: 'gptq' } }],
    ['rope_scaling.rope_type', 'llama3-bf16', { rope_scaling: { rope_type: 'dynamic', factor: 2 } }],
    ['rope_scaling.low_freq_factor', 'llama3-bf16', { rope_scaling: { rope_type: 'llama3', factor: 2 } }],
    ['rope_scaling.short_factor', 'phi3-longrope-f16', { rope_scaling: { type: 'longrope', short_factor: [1] } }],
    ['partial_rotary_factor', 'llama3-bf16', { partial_rotary_factor: 0.5 }],
    ['num_hidden_layers', 'llama3-bf16', { num_hidden_layers: 1e9 }],
    ['num_hidden_layers', 'llama3-bf16', { num_hidden_layers: '4' }],
    ['hidden_size', 'llama3-bf16', { hidden_size: null }],
    ['num_key_value_heads', 'llama3-bf16', { num_key_value_heads: 3 }],
    ['head_dim', 'llama3-bf16', { hidden_size: 66 }],
    ['layer_types', 'mistral-f32', { layer_types: ['full_attention', 'full_attention', 'full_attention'] }],
    ['eos_token_id', 'llama3-bf16', { eos_token_id: 320 }],
  ]

  test.each(cases)('%s in %s', (field, base, change) => {
    let thrown: unknown
    try {
      parseModelConfig({ ...load(base).config, ...change })
    } catch (error) {
      thrown = error
    }
    expect(isLlmNodeError(thrown, 'MODEL_UNSUPPORTED')).toBe(true)
    expect(thrown).toHaveProperty('meta.field', field)
  })

  test('something that is not an object', () => {
    for (const value of [null, [], 'x', 3]) expect(() => parseModelConfig(value)).toThrow('not a JSON object')
  })
})
