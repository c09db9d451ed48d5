import { parseRope } from '../rope-config.ts'
import { assertSilu, type Family, parseSizes, separateLayer } from './decoder.ts'
import { parseQwenWindows } from './qwen2.ts'

/** Qwen3: RMS norm on each head's q and k; the head size is free (128 when the config is silent). */
export const qwen3: Family = {
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  parse(config) {
    assertSilu(config)
    const sizes = parseSizes(config, { nKvHeads: 32, headDim: 128 })
    const bias = config.flag('attention_bias', false)
    const windows = parseQwenWindows(config, sizes.nLayers)
    return {
      sizes,
      rmsNormEps: config.positive('rms_norm_eps', 1e-6),
      rope: parseRope(config, { headDim: sizes.headDim, maxContext: sizes.maxContext, partial: false }),
      qkNorm: true,
      layer: (index) =>
        separateLayer(index, sizes, {
          qkvBias: bias,
          oBias: bias,
          mlpBias: false,
          qkNorm: true,
          slidingWindow: windows(index),
        }),
    }
  },
}
