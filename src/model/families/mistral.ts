import { parseRope } from '../rope-config.ts'
import { assertLayerTypes, assertSilu, type Family, parseSizes, parseWindow, separateLayer } from './decoder.ts'

/** Mistral: a sliding window in every layer (4096 when the config is silent, none when it says null), no biases. */
export const mistral: Family = {
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  parse(config) {
    assertSilu(config)
    const sizes = parseSizes(config, { nKvHeads: 8, headDim: null })
    const slidingWindow = parseWindow(config, 4_096)
    assertLayerTypes(config, sizes.nLayers, () => slidingWindow !== null)
    return {
      sizes,
      rmsNormEps: config.positive('rms_norm_eps', 1e-6),
      rope: parseRope(config, { headDim: sizes.headDim, maxContext: sizes.maxContext, partial: false }),
      qkNorm: false,
      layer: (index) =>
        separateLayer(index, sizes, { qkvBias: false, oBias: false, mlpBias: false, qkNorm: false, slidingWindow }),
    }
  },
}
