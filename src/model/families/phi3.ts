import { modelLimits } from '../../base/limits.ts'
import { parseRope } from '../rope-config.ts'
import type { LayerSpec } from '../spec.ts'
import {
  assertLayerTypes,
  assertSilu,
  type Family,
  layerNorms,
  linear,
  parseSizes,
  parseWindow,
  type Sizes,
} from './decoder.ts'

/**
 * Phi-3, 3.5 and 4-mini: q, k, v in one tensor and gate, up in another, no biases whatever the config says, and a
 * part of each head may not turn. The top-level original_max_position_embeddings wins, even by its default.
 */
export const phi3: Family = {
  modelType: 'phi3',
  architecture: 'Phi3ForCausalLM',
  parse(config) {
    assertSilu(config)
    const sizes = parseSizes(config)
    const slidingWindow = parseWindow(config, null)
    assertLayerTypes(config, sizes.nLayers, () => slidingWindow !== null)
    const originalMaxPosition = config.whole(
      'original_max_position_embeddings',
      { min: 1, max: modelLimits.maxContext },
      4_096,
    )
    return {
      sizes,
      rmsNormEps: config.positive('rms_norm_eps', 1e-5),
      rope: parseRope(config, {
        headDim: sizes.headDim,
        maxContext: sizes.maxContext,
        partial: true,
        originalMaxPosition,
        aliases: { su: 'longrope', yarn: 'longrope' },
      }),
      qkNorm: false,
      layer: (index) => fusedLayer(index, sizes, slidingWindow),
    }
  },
}

function fusedLayer(index: number, sizes: Sizes, slidingWindow: number | null): LayerSpec {
  const { hiddenSize, headDim, intermediateSize } = sizes
  const at = `model.layers.${index}`
  const qRows = sizes.nHeads * headDim
  const fused = (name: string, rows: number) => [{ module: `${at}.${name}`, rows, bias: false }]
  return {
    linears: [
      linear('qkv', hiddenSize, fused('self_attn.qkv_proj', qRows + 2 * sizes.nKvHeads * headDim)),
      linear('o', qRows, fused('self_attn.o_proj', hiddenSize)),
      linear('gate_up', hiddenSize, fused('mlp.gate_up_proj', 2 * intermediateSize)),
      linear('down', intermediateSize, fused('mlp.down_proj', hiddenSize)),
    ],
    vectors: layerNorms(at, hiddenSize),
    slidingWindow,
  }
}
