/** Each of many random sessions computes what it would alone, and nothing of them stays behind. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RecipeId } from '../../src/shard/recipe.ts'
import type { RunRecord } from '../../src/shard/runner.ts'
import { openEngine, type TestEngine } from '../helpers/engine.ts'
import { runRandomLoad } from '../helpers/random-load.ts'

describe.each(['q4/1', 'i8/1'] as const)('%s', (recipe: RecipeId) => {
  let engine: TestEngine
  let records: RunRecord[] = []

  beforeAll(async () => {
    engine = await openEngine('tests/golden/qwen3-sharded-f32', recipe, { onRun: (record) => records.push(record) })
  })
  afterAll(() => engine.close())

  test('500 random sessions', { timeout: 120_000 }, async () => {
    records = []
    const free = engine.runner.freeKvTokens
    expect(await runRandomLoad(engine, { sessions: 500, underWay: 20, mostRows: 96 })).toBe(0)
    expect(engine.runner.freeKvTokens).toBe(free)
    expect(engine.runner.memory().kvBytes).toBe(0)
    // It was company that they were in.
    expect(records.filter(({ sessions }) => sessions > 2).length).toBeGreaterThan(records.length / 2)
  })
})
