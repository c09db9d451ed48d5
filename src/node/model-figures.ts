import type { ModelSpec } from '../model/spec.ts'
import { suggestedSlots } from '../shard/graph-slots.ts'
import { kvBytesPerPosition } from '../shard/kv.ts'
import { declareEnds, declareLayer, packedFileBytes } from '../shard/pack.ts'
import type { RecipeId } from '../shard/recipe.ts'
import type { ModelSurvey } from '../shard/survey.ts'
import { endsUnit, layerUnit } from '../shard/units.ts'

export interface LayerFigures {
  /** To fetch. */
  readonly rawBytes: number
  /** On the disk and in memory. */
  readonly packedBytes: number
}

/** What a model costs in one recipe, from its shape and the headers of its files alone. Bytes. */
export interface ModelFigures {
  readonly layers: readonly LayerFigures[]
  /** The largest layer: what a plan counts with. */
  readonly layer: LayerFigures & { readonly graphBytes: number; readonly kvBytesPerToken: number }
  readonly ends: LayerFigures & { readonly memoryBytes: number }
}

export function figuresOf(survey: ModelSurvey, recipe: RecipeId): ModelFigures {
  const { spec } = survey
  const layers = spec.layers.map((_, layer): LayerFigures => {
    const { rawBytes, packedBytes } = layerUnit(survey, layer, recipe)
    return { rawBytes, packedBytes }
  })
  const { rawBytes, packedBytes } = endsUnit(survey, recipe)
  return {
    layers,
    layer: largest(layers, spec),
    ends: { rawBytes, packedBytes, memoryBytes: headBytes(spec, recipe) },
  }
}

/** The same from the shape alone, for weights that their source stores in 16 bits. */
export function figuresOfSpec(spec: ModelSpec, recipe: RecipeId): ModelFigures {
  const layers = spec.layers.map((layer): LayerFigures => {
    const weights = layer.linears.reduce((sum, { k, n }) => sum + k * n, 0)
    return { rawBytes: 2 * weights, packedBytes: packedFileBytes(declareLayer(layer, recipe), recipe) }
  })
  const [vocab = 0, hidden = 0] = spec.embedding.shape
  return {
    layers,
    layer: largest(layers, spec),
    ends: {
      rawBytes: 2 * vocab * hidden * (spec.tiedEmbeddings ? 1 : 2),
      packedBytes: packedFileBytes(declareEnds(spec, recipe, 'BF16'), recipe),
      memoryBytes: headBytes(spec, recipe),
    },
  }
}

function largest(layers: readonly LayerFigures[], spec: ModelSpec): ModelFigures['layer'] {
  return {
    rawBytes: Math.max(...layers.map(({ rawBytes }) => rawBytes)),
    packedBytes: Math.max(...layers.map(({ packedBytes }) => packedBytes)),
    graphBytes: graphBytes(spec),
    kvBytesPerToken: kvBytesPerPosition(spec),
  }
}

/**
 * What one layer takes beside its weights: the nodes of its graph, prepared for every slot. Measured, resident: 2.6 to
 * 3.6 MB with 8 slots (Qwen3-0.6B's shape), 1.3 MB with 4 (the demo model).
 */
export function graphBytes(spec: ModelSpec): number {
  return suggestedSlots(spec) * 375_000
}

/** Norm and head in memory; rows of the embedding are read from the disk. */
export function headBytes(spec: ModelSpec, recipe: RecipeId): number {
  const loaded = declareEnds(spec, recipe, 'F32').filter(({ name }) => name !== 'embedding')
  return packedFileBytes(loaded, recipe)
}
