import { modelLimits } from '../../base/limits.ts'
import type { ConfigFields } from '../config-fields.ts'
import { parseRope } from '../rope-config.ts'
import { assertSilu, type Family, parseSizes, parseWindow, separateLayer } from './decoder.ts'

/** Qwen2 and 2.5: q, k and v always have a bias, o never. */
export const qwen2: Family = {
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  parse(config) {
    assertSilu(config)
    const sizes = parseSizes(config, { nKvHeads: 32, headDim: null })
    const windows = parseQwenWindows(config, sizes.nLayers)
    return {
      sizes,
      rmsNormEps: config.positive('rms_norm_eps', 1e-6),
      rope: parseRope(config, { headDim: sizes.headDim, maxContext: sizes.maxContext, partial: false }),
      qkNorm: false,
      layer: (index) =>
        separateLayer(index, sizes, {
          qkvBias: true,
          oBias: false,
          mlpBias: false,
          qkNorm: false,
          slidingWindow: windows(index),
        }),
    }
  },
}

/**
 * Qwen's windows: only with use_sliding_window, then only layers from max_window_layers on, unless layer_types says
 * which. Without the switch sliding_window is ignored.
 */
export function parseQwenWindows(config: ConfigFields, nLayers: number): (index: number) => number | null {
  const window = config.flag('use_sliding_window', false) ? parseWindow(config, 4_096) : null
  const types = config.raw('layer_types')
  if (types === undefined || types === null) {
    const first = config.whole('max_window_layers', { min: 0, max: modelLimits.nLayers }, 28)
    return (index) => (index >= first ? window : null)
  }
  const known = (type: unknown) => type === 'full_attention' || type === 'sliding_attention'
  if (!Array.isArray(types) || types.length !== nLayers || !types.every(known)) {
    throw config.refuse('layer_types', `does not say "full_attention" or "sliding_attention" for ${nLayers} layers`)
  }
  return (index) => (types[index] === 'sliding_attention' ? window : null)
}
