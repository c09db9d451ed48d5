import { LlmNodeError } from '../base/errors.ts'

/** How weights are stored and multiplied. The version is part of the id: other arithmetic, other id. */
export type RecipeId = 'f32/1' | 'q8/1' | 'q4/1' | 'i8/1'

export const recipeIds: readonly RecipeId[] = ['i8/1', 'q4/1', 'q8/1', 'f32/1']

/** 'q4/1', or 'q4' for its newest version. Throws BAD_INPUT. */
export function parseRecipe(text: string): RecipeId {
  const found = recipeIds.find((id) => id === text || id.split('/')[0] === text)
  if (!found) {
    throw new LlmNodeError('BAD_INPUT', `"${text}" is not a recipe.`, { hint: `Use one of ${recipeIds.join(', ')}.` })
  }
  return found
}

/** Weights per scale along k for q8 and q4: the largest of 128, 64, 32, 16 that divides k. Throws MODEL_UNSUPPORTED. */
export function blockSize(k: number, tensor: string): number {
  const size = [128, 64, 32, 16].find((candidate) => k % candidate === 0)
  if (size === undefined) {
    throw new LlmNodeError('MODEL_UNSUPPORTED', `${tensor} has ${k} columns, which no block of 16 or more divides.`, {
      hint: 'Use the recipe i8 or f32 for this model.',
      meta: { tensor, columns: k },
    })
  }
  return size
}

/** The file of one layer in a model's folder: `layer-00012.i8-1.safetensors`. */
export function layerFileName(layer: number, recipe: RecipeId): string {
  return `layer-${String(layer).padStart(5, '0')}.${recipe.replace('/', '-')}.safetensors`
}

/** The file of the embedding, the final norm and the head: `ends.i8-1.safetensors`. */
export function endsFileName(recipe: RecipeId): string {
  return `ends.${recipe.replace('/', '-')}.safetensors`
}
