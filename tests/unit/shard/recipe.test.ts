import { expect, test } from 'vitest'
import { blockSize, endsFileName, layerFileName, parseRecipe, recipeIds } from '../../../src/shard/recipe.ts'

test('a recipe is named with or without its version', () => {
  expect(parseRecipe('q4')).toBe('q4/1')
  for (const id of recipeIds) expect(parseRecipe(id)).toBe(id)
  for (const text of ['', 'q5', 'q4/2', 'Q4', '/1']) expect(() => parseRecipe(text)).toThrow('not a recipe')
})

test('the block is the largest of 128, 64, 32, 16 that divides k', () => {
  expect([384, 192, 96, 144, 112].map((k) => blockSize(k, 'w'))).toEqual([128, 64, 32, 16, 16])
  expect(() => blockSize(100, 'down')).toThrow('down has 100 columns')
})

test('file names carry the recipe', () => {
  expect(layerFileName(12, 'i8/1')).toBe('layer-00012.i8-1.safetensors')
  expect(endsFileName('f32/1')).toBe('ends.f32-1.safetensors')
})
