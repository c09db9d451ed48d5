/** Sessions that share runs: none of them can tell (engine.md §6.2, §6.3, §8). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RecipeId, recipeIds } from '../../src/shard/recipe.ts'
import type { KvSession, RunRecord, SpanRunner } from '../../src/shard/runner.ts'
import { digestOf, openEngine, openRunner, sampleRows, spansAt, type TestEngine } from '../helpers/engine.ts'

/** Every family: grouped heads and one KV head for each, biases, heads of 24, windows, long and scaled rotations. */
const sources = [
  'qwen3-tied-bf16',
  'qwen3-sharded-f32',
  'qwen2-bf16',
  'mistral-f32',
  'llama-mha-f16',
  'llama3-bf16',
  'phi3-bf16',
  'phi3-longrope-f16',
].map((name) => `tests/golden/${name}`)
const cases = sources.flatMap((source) => recipeIds.map((recipe) => ({ source, recipe })))

/** Rows of each session, and the sizes of its calls, over and over. */
const talks = [
  { rows: 75, chunks: [75] },
  { rows: 40, chunks: [1] },
  { rows: 33, chunks: [2, 1, 5] },
  { rows: 61, chunks: [17, 1, 1] },
  { rows: 9, chunks: [1] },
  { rows: 50, chunks: [3, 64] },
]

/** All rows of one session through the chain of sessions, call by call. */
async function talk(chain: readonly KvSession[], rows: Float32Array, hiddenSize: number, chunks: readonly number[]) {
  const output = new Float32Array(rows.length)
  let pos = 0
  for (let call = 0; pos * hiddenSize < rows.length; call++) {
    const size = chunks[call % chunks.length] ?? 1
    let hidden: Float32Array = rows.slice(pos * hiddenSize, (pos + size) * hiddenSize)
    for (const session of chain) hidden = await session.forward(pos, hidden)
    output.set(hidden, pos * hiddenSize)
    pos += hidden.length / hiddenSize
  }
  return output
}

describe.each(cases)('$source $recipe', ({ source, recipe }: { source: string; recipe: RecipeId }) => {
  let engine: TestEngine
  let inputs: Float32Array[] = []
  let expected: string[] = []
  let records: RunRecord[] = []

  beforeAll(async () => {
    engine = await openEngine(source, recipe, { onRun: (record) => records.push(record) })
    const { hiddenSize } = engine.model.spec
    inputs = talks.map(({ rows }, i) => sampleRows(rows, hiddenSize).map((value) => value * (1 - 0.13 * i)))
    expected = []
    for (const [i, { rows }] of talks.entries()) {
      const session = openOn(engine.runner, rows)
      expected.push(digestOf(await talk([session], inputs[i] ?? new Float32Array(), hiddenSize, [rows])))
      session.close()
    }
  })
  afterAll(() => engine.close())

  const openOn = (runner: SpanRunner, maxContext: number) => runner.openSession({ span: runner.span, maxContext })
  const together = async (runners: readonly SpanRunner[]) => {
    const digests = await Promise.all(
      talks.map(async ({ rows, chunks }, i) => {
        const chain = runners.map((runner) => openOn(runner, rows))
        const output = await talk(chain, inputs[i] ?? new Float32Array(), engine.model.spec.hiddenSize, chunks)
        for (const session of chain) session.close()
        return digestOf(output)
      }),
    )
    expect(digests).toEqual(expected)
  }

  test('rows of several sessions in one run', async () => {
    records = []
    await together([engine.runner])
    expect(Math.max(...records.map(({ sessions }) => sessions))).toBeGreaterThan(3)
    expect(engine.runner.memory().kvBytes).toBe(0)
  })

  test('logits of several callers in one run of the head', async () => {
    const rows = [3, 1, 1, 20, 2].map((count) => sampleRows(count, engine.model.spec.hiddenSize))
    const alone: string[] = []
    for (const part of rows) alone.push(digestOf(await engine.ends.logits(part)))
    const both = await Promise.all(rows.map((part) => engine.ends.logits(part)))
    expect(both.map((part) => digestOf(part))).toEqual(alone)
  })

  test('and with two slots, two threads, and layers on two runners', async () => {
    const spans = spansAt(engine.model.spec.nLayers, [1])
    const runners = await Promise.all(
      spans.map((span, i) => openRunner(engine.model, { span, threads: 2, slots: 2 + i })),
    )
    await together(runners)
    await Promise.all(runners.map((runner) => runner.close()))
  })
})
