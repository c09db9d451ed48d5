import { expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { numericsClass } from '../../src/shard/probe.ts'
import { recipeIds } from '../../src/shard/recipe.ts'

test('the numerics class: 32 bytes, one per recipe, once per process, in under a second', async () => {
  const startMs = performance.now()
  const classes = await Promise.all(recipeIds.map((recipe) => numericsClass(recipe)))
  expect(performance.now() - startMs).toBeLessThan(4_000)
  expect(classes.every((id) => id.length === 32)).toBe(true)
  expect(new Set(classes.map(toHex)).size).toBe(recipeIds.length)
  expect(numericsClass('i8/1')).toBe(numericsClass('i8/1'))
})

test('a library that cannot be loaded is said so, every time', async () => {
  const first = numericsClass('i8/1', { library: 'package.json' })
  await expect(first).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
  await expect(numericsClass('i8/1', { library: 'package.json' })).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
})
