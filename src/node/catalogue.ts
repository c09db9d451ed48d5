import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { parseModelConfig } from '../model/config.ts'
import type { ModelSpec } from '../model/spec.ts'
import { kvBytesPerPosition } from '../shard/kv.ts'
import { type RecipeId, recipeIds } from '../shard/recipe.ts'
import { figuresOfSpec } from './model-figures.ts'

const catalogueSchema = z.strictObject({
  format: z.literal(1),
  models: z
    .array(
      z.strictObject({
        repository: z.string().regex(/^[\w-][\w.-]*\/[\w-][\w.-]*$/),
        licence: z.string().min(1),
        /** The repository wants an account and a token (HF_TOKEN). */
        gated: z.boolean(),
        /** The shape, as config.json says it; the rest of that file comes with the model. */
        config: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
      }),
    )
    .max(256),
})

export interface RecipeSizes {
  readonly layerBytes: number
  readonly endsBytes: number
  /** Of the ends in memory: the embedding stays on the disk. */
  readonly endsMemoryBytes: number
  /** All layers and the ends. */
  readonly totalBytes: number
}

/** An open model that is known to work, with what it costs; computed from its shape alone. */
export interface CatalogueModel {
  readonly repository: string
  readonly licence: string
  readonly gated: boolean
  readonly nLayers: number
  readonly maxContext: number
  /** Keys and values of one token in one layer. */
  readonly kvBytesPerToken: number
  readonly sizes: Readonly<Record<RecipeId, RecipeSizes>>
}

/** The catalogue that comes with the program (models/catalogue.json). */
export async function readCatalogue(): Promise<CatalogueModel[]> {
  const text = await readFile(new URL('../../models/catalogue.json', import.meta.url), 'utf8')
  return parseCatalogue(text)
}

/** Throws BAD_INPUT, MODEL_UNSUPPORTED. */
export function parseCatalogue(text: string): CatalogueModel[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('BAD_INPUT', 'The catalogue is not JSON.', { cause })
  }
  const parsed = catalogueSchema.safeParse(value)
  if (!parsed.success) throw new LlmNodeError('BAD_INPUT', `The catalogue: ${z.prettifyError(parsed.error)}`)
  return parsed.data.models.map(({ repository, licence, gated, config }) => {
    const spec = parseModelConfig(config)
    return {
      repository,
      licence,
      gated,
      nLayers: spec.nLayers,
      maxContext: spec.maxContext,
      kvBytesPerToken: kvBytesPerPosition(spec),
      sizes: sizesOf(spec),
    }
  })
}

function sizesOf(spec: ModelSpec): Record<RecipeId, RecipeSizes> {
  const sizes = (recipe: RecipeId): RecipeSizes => {
    const { layers, layer, ends } = figuresOfSpec(spec, recipe)
    return {
      layerBytes: layer.packedBytes,
      endsBytes: ends.packedBytes,
      endsMemoryBytes: ends.memoryBytes,
      totalBytes: layers.reduce((sum, { packedBytes }) => sum + packedBytes, ends.packedBytes),
    }
  }
  return Object.fromEntries(recipeIds.map((recipe) => [recipe, sizes(recipe)])) as Record<RecipeId, RecipeSizes>
}
