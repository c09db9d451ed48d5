import { modelLimits } from '../../base/limits.ts'
import type { ConfigFields } from '../config-fields.ts'
import type { LayerSpec, LinearRole, LinearSpec, RopeSpec, TensorSource, VectorRole, VectorSpec } from '../spec.ts'

/** One supported kind of model: how it is recognised and how its config.json becomes a spec's parts. */
export interface Family {
  readonly modelType: string
  readonly architecture: string
  parse(config: ConfigFields): FamilyParts
}

/** What a family decides; the rest of a ModelSpec is the same for all (config.ts). */
export interface FamilyParts {
  readonly sizes: Sizes
  readonly rmsNormEps: number
  readonly rope: RopeSpec
  readonly qkNorm: boolean
  layer(index: number): LayerSpec
}

export interface Sizes {
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
 * The sizes every family names alike. `nKvHeads` null: absent means as many as heads, a number: the family's default.
 * `headDim` null: absent means hidden size / heads.
 */
export function parseSizes(
  config: ConfigFields,
  defaults: { nKvHeads: number | null; headDim: number | null } = { nKvHeads: null, headDim: null },
): Sizes {
  const upTo = (max: number) => ({ min: 1, max })
  const hiddenSize = config.whole('hidden_size', upTo(modelLimits.hiddenSize))
  const nHeads = config.whole('num_attention_heads', upTo(modelLimits.hiddenSize))
  const missingKv = config.has('num_key_value_heads') ? nHeads : (defaults.nKvHeads ?? nHeads)
  const nKvHeads = config.whole('num_key_value_heads', upTo(nHeads), missingKv)
  if (nHeads % nKvHeads !== 0) throw config.refuse('num_key_value_heads', `does not divide ${nHeads} heads`)
  const missingDim = config.has('head_dim') ? hiddenSize / nHeads : (defaults.headDim ?? hiddenSize / nHeads)
  const headDim = config.whole('head_dim', upTo(modelLimits.hiddenSize), missingDim)
  if (headDim % 2 !== 0) throw config.refuse('head_dim', `is ${headDim}, an odd number`)
  if (nHeads * headDim > modelLimits.width) throw config.refuse('head_dim', 'is too large')
  return {
    nLayers: config.whole('num_hidden_layers', upTo(modelLimits.nLayers)),
    hiddenSize,
    nHeads,
    nKvHeads,
    headDim,
    intermediateSize: config.whole('intermediate_size', upTo(modelLimits.width)),
    vocabSize: config.whole('vocab_size', upTo(modelLimits.vocabSize)),
    maxContext: config.whole('max_position_embeddings', upTo(modelLimits.maxContext)),
  }
}

/** Throws MODEL_UNSUPPORTED unless the MLP is SiLU(gate) · up. */
export function assertSilu(config: ConfigFields): void {
  const act = config.raw('hidden_act') ?? 'silu'
  if (act !== 'silu' && act !== 'swish') throw config.refuse('hidden_act', `is ${JSON.stringify(act)}, not "silu"`)
}

export function vector(role: VectorRole, name: string, length: number): VectorSpec {
  return { role, length, source: { name, shape: [length] } }
}

/** A matrix from tensors `[rows, k]` stacked in order; `bias`: each has a `.bias` beside its `.weight`. */
export function linear(
  role: LinearRole,
  k: number,
  stacked: readonly { module: string; rows: number; bias: boolean }[],
): LinearSpec {
  const sources = (suffix: string, shape: (rows: number) => number[]): TensorSource[] =>
    stacked.map(({ module, rows }) => ({ name: `${module}.${suffix}`, shape: shape(rows) }))
  return {
    role,
    k,
    n: stacked.reduce((sum, { rows }) => sum + rows, 0),
    weight: sources('weight', (rows) => [rows, k]),
    bias: stacked.some(({ bias }) => bias) ? sources('bias', (rows) => [rows]) : [],
  }
}

export interface SeparateOptions {
  readonly qkvBias: boolean
  readonly oBias: boolean
  readonly mlpBias: boolean
  readonly qkNorm: boolean
  readonly slidingWindow: number | null
}

/** The layer that Llama introduced and most families share: separate q, k, v, gate and up tensors. */
export function separateLayer(index: number, sizes: Sizes, options: SeparateOptions): LayerSpec {
  const { hiddenSize, headDim, intermediateSize } = sizes
  const at = `model.layers.${index}`
  const qRows = sizes.nHeads * headDim
  const kvRows = sizes.nKvHeads * headDim
  const attention = (name: string, rows: number, bias: boolean) => ({ module: `${at}.self_attn.${name}`, rows, bias })
  const mlp = (name: string, rows: number) => ({ module: `${at}.mlp.${name}`, rows, bias: options.mlpBias })
  return {
    linears: [
      linear('qkv', hiddenSize, [
        attention('q_proj', qRows, options.qkvBias),
        attention('k_proj', kvRows, options.qkvBias),
        attention('v_proj', kvRows, options.qkvBias),
      ]),
      linear('o', qRows, [attention('o_proj', hiddenSize, options.oBias)]),
      linear('gate_up', hiddenSize, [mlp('gate_proj', intermediateSize), mlp('up_proj', intermediateSize)]),
      linear('down', intermediateSize, [mlp('down_proj', hiddenSize)]),
    ],
    vectors: [
      ...layerNorms(at, hiddenSize),
      ...(options.qkNorm
        ? [
            vector('q_norm', `${at}.self_attn.q_norm.weight`, headDim),
            vector('k_norm', `${at}.self_attn.k_norm.weight`, headDim),
          ]
        : []),
    ],
    slidingWindow: options.slidingWindow,
  }
}

export function layerNorms(at: string, hiddenSize: number): VectorSpec[] {
  return [
    vector('attn_norm', `${at}.input_layernorm.weight`, hiddenSize),
    vector('mlp_norm', `${at}.post_attention_layernorm.weight`, hiddenSize),
  ]
}

/** A window in positions, the position itself included; null: none. `fallback` counts when the field is absent. */
export function parseWindow(config: ConfigFields, fallback: number | null): number | null {
  if (!config.has('sliding_window') && fallback === null) return null
  if (config.raw('sliding_window') === null) return null
  return config.whole('sliding_window', { min: 1, max: modelLimits.maxContext }, fallback ?? undefined)
}

/** Throws unless `layer_types`, where the config has it, says what the engine is going to do in every layer. */
export function assertLayerTypes(config: ConfigFields, nLayers: number, windowed: (index: number) => boolean): void {
  const types = config.raw('layer_types')
  if (types === undefined || types === null) return
  if (!Array.isArray(types) || types.length !== nLayers)
    throw config.refuse('layer_types', `does not list ${nLayers} layers`)
  for (const [index, type] of types.entries()) {
    const expected = windowed(index) ? 'sliding_attention' : 'full_attention'
    if (type !== expected) {
      throw config.refuse('layer_types', `says ${JSON.stringify(type)} for layer ${index}, expected "${expected}"`)
    }
  }
}
