import { parseRope } from '../rope-config.ts'
import { assertLayerTypes, assertSilu, type Family, parseSizes, separateLayer } from './decoder.ts'

/** Llama 2, 3, 3.x: biases where the config asks for them; a sliding_window in the config has no meaning. */
export const llama: Family = {
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  parse(config) {
    assertSilu(config)
    const sizes = parseSizes(config)
    const attentionBias = config.flag('attention_bias', false)
    const mlpBias = config.flag('mlp_bias', false)
    assertLayerTypes(config, sizes.nLayers, () => false)
    return {
      sizes,
      rmsNormEps: config.positive('rms_norm_eps', 1e-6),
      rope: parseRope(config, { headDim: sizes.headDim, maxContext: sizes.maxContext, partial: false }),
      qkNorm: false,
      layer: (index) =>
        separateLayer(index, sizes, {
          qkvBias: attentionBias,
          oBias: attentionBias,
          mlpBias,
          qkNorm: false,
          slidingWindow: null,
        }),
    }
  },
}
