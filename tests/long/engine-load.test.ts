/** A thousand random sessions for every recipe, on models with grouped heads, with one KV head for each, and with windows. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RecipeId, recipeIds } from '../../src/shard/recipe.ts'
import type { RunRecord } from '../../src/shard/runner.ts'
import { openEngine, type TestEngine } from '../helpers/engine.ts'
import { runRandomLoad } from '../helpers/random-load.ts'

const sources = ['qwen3-sharded-f32', 'llama-mha-f16', 'mistral-f32'].map((name) => `tests/golden/${name}`)
const cases = sources.flatMap((source) => recipeIds.map((recipe) => ({ source, recipe })))

describe.each(cases)('$source $recipe', ({ source, recipe }: { source: string; recipe: RecipeId }) => {
  let engine: TestEngine
  let records: RunRecord[] = []

  beforeAll(async () => {
    engine = await openEngine(source, recipe, { threads: 2, onRun: (record) => records.push(record) })
  })
  afterAll(() => engine.close())

  test('1,000 random sessions', { timeout: 600_000 }, async () => {
    records = []
    const free = engine.runner.freeKvTokens
    expect(await runRandomLoad(engine, { sessions: 1_000, underWay: 40, mostRows: 300 })).toBe(0)
    expect(engine.runner.freeKvTokens).toBe(free)
    expect(engine.runner.memory().kvBytes).toBe(0)
    // It was company that they were in.
    expect(records.filter(({ sessions }) => sessions > 2).length).toBeGreaterThan(records.length / 2)
  })
})
