import type { ModelSpec } from '../model/spec.ts'
import { kvBytesPerPosition } from '../shard/kv.ts'
import { declareEnds, packedFileBytes } from '../shard/pack.ts'
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
  readonly layer: LayerFigures & { readonly kvBytesPerToken: number }
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
    layer: {
      rawBytes: Math.max(...layers.map((layer) => layer.rawBytes)),
      packedBytes: Math.max(...layers.map((layer) => layer.packedBytes)),
      kvBytesPerToken: kvBytesPerPosition(spec),
    },
    ends: { rawBytes, packedBytes, memoryBytes: headBytes(spec, recipe) },
  }
}

/** Norm and head in memory; rows of the embedding are read from the disk. */
export function headBytes(spec: ModelSpec, recipe: RecipeId): number {
  const loaded = declareEnds(spec, recipe, 'F32').filter(({ name }) => name !== 'embedding')
  return packedFileBytes(loaded, recipe)
}
