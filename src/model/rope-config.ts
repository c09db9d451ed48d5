import type { ConfigFields } from './config-fields.ts'
import { createConfigFields } from './config-fields.ts'
import type { RopeSpec } from './spec.ts'

/** Where the families differ. */
interface RopeOptions {
  readonly headDim: number
  readonly maxContext: number
  /** partial_rotary_factor is honoured; otherwise any value but 1 is refused. */
  readonly partial: boolean
  /** The length before extension when the config names one at its top level (Phi-3). */
  readonly originalMaxPosition?: number
  /** Old names of rope types, as the family's own configuration code translates them. */
  readonly aliases?: Readonly<Record<string, string>>
}

type Scaling = RopeSpec['scaling']

/** Reads both styles: rope_theta with rope_scaling, and the newer rope_parameters that holds everything. */
export function parseRope(config: ConfigFields, options: RopeOptions): RopeSpec {
  const parameters = config.object('rope_parameters')
  const scaling = parameters ?? config.object('rope_scaling') ?? createConfigFields({}, 'rope_scaling.')
  const themed = parameters?.has('rope_theta') === true ? parameters : config
  return {
    theta: themed.positive('rope_theta', 10_000),
    rotaryDim: rotaryDim(config, parameters, options),
    scaling: parseScaling(config, scaling, options),
  }
}

function rotaryDim(config: ConfigFields, parameters: ConfigFields | null, options: RopeOptions): number {
  const fields = parameters?.has('partial_rotary_factor') === true ? parameters : config
  const factor = fields.positive('partial_rotary_factor', 1)
  if (factor > 1 || (factor !== 1 && !options.partial)) {
    throw fields.refuse('partial_rotary_factor', `is ${factor}, which this family does not support`)
  }
  const dims = Math.floor(options.headDim * factor)
  if (dims < 2 || dims % 2 !== 0) throw fields.refuse('partial_rotary_factor', `leaves ${dims} dimensions to turn`)
  return dims
}

function parseScaling(config: ConfigFields, scaling: ConfigFields, options: RopeOptions): Scaling {
  const field = scaling.has('rope_type') ? 'rope_type' : 'type'
  const named = scaling.raw(field) ?? 'default'
  const type = typeof named === 'string' ? (options.aliases?.[named] ?? named) : named
  if (type === 'default') return { type }
  if (type === 'linear') return { type, factor: scaling.positive('factor') }
  if (type === 'llama3') {
    const lowFreqFactor = scaling.positive('low_freq_factor')
    const highFreqFactor = scaling.positive('high_freq_factor')
    if (highFreqFactor <= lowFreqFactor) throw scaling.refuse('high_freq_factor', 'is not above low_freq_factor')
    const originalMaxPosition = scaling.positive('original_max_position_embeddings')
    return { type, factor: scaling.positive('factor'), lowFreqFactor, highFreqFactor, originalMaxPosition }
  }
  if (type === 'longrope') return parseLongRope(config, scaling, options)
  if (type === 'yarn') return parseYarn(scaling, options)
  throw scaling.refuse(field, `is ${JSON.stringify(named)}, a rope type that llm-node does not know`)
}

/** sqrt(1 + ln(factor) / ln(original)), the factor being max/original when the model says what original is. */
function parseLongRope(config: ConfigFields, scaling: ConfigFields, options: RopeOptions): Scaling {
  for (const field of ['short_mscale', 'long_mscale']) {
    if (scaling.has(field)) throw scaling.refuse(field, 'is not supported')
  }
  const half = rotaryDim(config, config.object('rope_parameters'), options) / 2
  const stated = options.originalMaxPosition ?? statedOriginal(scaling)
  const originalMaxPosition = stated ?? options.maxContext
  const factor = stated === undefined ? scaling.positive('factor') : options.maxContext / stated
  const computed = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPosition))
  return {
    type: 'longrope',
    shortFactor: scaling.positives('short_factor', half),
    longFactor: scaling.positives('long_factor', half),
    originalMaxPosition,
    attentionFactor: scaling.positive('attention_factor', computed),
  }
}

function statedOriginal(scaling: ConfigFields): number | undefined {
  const value = scaling.raw('original_max_position_embeddings') ?? undefined
  return value === undefined ? undefined : scaling.positive('original_max_position_embeddings')
}

/** Without an original length, YaRN takes the whole context, not divided by the factor (as transformers does). */
function parseYarn(scaling: ConfigFields, options: RopeOptions): Scaling {
  const originalMaxPosition = statedOriginal(scaling) ?? options.maxContext
  const factor = scaling.positive('factor', options.maxContext / originalMaxPosition)
  const magnitude = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1)
  const mscale = Number(scaling.raw('mscale') ?? 0)
  const mscaleAllDim = Number(scaling.raw('mscale_all_dim') ?? 0)
  const computed = mscale && mscaleAllDim ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1)
  return {
    type: 'yarn',
    factor,
    originalMaxPosition,
    betaFast: scaling.positive('beta_fast', 32),
    betaSlow: scaling.positive('beta_slow', 1),
    truncate: scaling.flag('truncate', true),
    attentionFactor: scaling.positive('attention_factor', computed),
  }
}
