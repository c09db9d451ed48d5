/** The promise of engine.md §6: a row's bits depend on nothing but the row, the model and the recipe. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RecipeId, recipeIds } from '../../src/shard/recipe.ts'
import type { KvSession, SpanRunner } from '../../src/shard/runner.ts'
import { digestOf, openEngine, openRunner, runChain, sampleRows, spansAt, type TestEngine } from '../helpers/engine.ts'

const sources = [
  'models/demo-qwen3',
  'tests/golden/qwen3-tied-bf16',
  'tests/golden/qwen3-sharded-f32',
  // Biases; a sliding window and heads of 24, which are turned before the attention.
  'tests/golden/qwen2-bf16',
  'tests/golden/mistral-f32',
]
const cases = sources.flatMap((source) => recipeIds.map((recipe) => ({ source, recipe })))
/** In the middle of the mantissa: the lowest one can vanish when a larger value is added. */
const flippedBit = 1 << 16
const promptIds = Array.from({ length: 75 }, (_, i) => (i * 53 + 7) % 300)

describe.each(cases)('$source $recipe', ({ source, recipe }: { source: string; recipe: RecipeId }) => {
  let engine: TestEngine
  let twoThreads: SpanRunner
  let prompt: Float32Array
  /** What comes out of the last layer, and the logits, in one run of one session. */
  let expected: string

  beforeAll(async () => {
    engine = await openEngine(source, recipe)
    twoThreads = await openRunner(engine.model, { threads: 2 })
    prompt = await engine.ends.embed(promptIds)
    expected = await digest(engine.runner, [], promptIds.length)
  })
  afterAll(async () => {
    await twoThreads.close()
    await engine.close()
  })

  const openSessions = (runner: SpanRunner, cuts: readonly number[]): KvSession[] =>
    spansAt(runner.spec.nLayers, cuts).map((span) => runner.openSession({ span, maxContext: promptIds.length }))

  const digest = async (runner: SpanRunner, cuts: readonly number[], chunk: number) => {
    const sessions = openSessions(runner, cuts)
    const outputs = await runChain(sessions, prompt, runner.spec.hiddenSize, chunk)
    for (const session of sessions) session.close()
    const hidden = outputs.at(-1) ?? new Float32Array()
    return digestOf(hidden, await engine.ends.logits(hidden))
  }

  test('every chunk size and thread count', async () => {
    for (const runner of [engine.runner, twoThreads]) {
      for (const chunk of [1, 2, 3, 7, 33, 64, 65, promptIds.length]) {
        expect(await digest(runner, [], chunk), `chunks of ${chunk}`).toBe(expected)
      }
    }
  })

  test('every split point, and 3 and nLayers spans', async () => {
    const n = engine.model.spec.nLayers
    const all = Array.from({ length: n - 1 }, (_, i) => i + 1)
    const third = Math.floor(n / 3)
    for (const cuts of [...all.map((cut) => [cut]), [third, 2 * third], all]) {
      expect(await digest(engine.runner, cuts, 7), `cut at ${cuts}`).toBe(expected)
    }
    expect(await digest(twoThreads, all, 64)).toBe(expected)
  })

  test('spans that are loaded on their own', async () => {
    const { nLayers, hiddenSize } = engine.model.spec
    const third = Math.floor(nLayers / 3)
    const spans = spansAt(nLayers, [third, 2 * third])
    const runners = await Promise.all(spans.map((span, i) => openRunner(engine.model, { span, threads: 1 + (i % 2) })))
    const sessions = runners.map((runner) => runner.openSession({ span: runner.span, maxContext: promptIds.length }))
    const outputs = await runChain(sessions, prompt, hiddenSize, 3)
    const hidden = outputs.at(-1) ?? new Float32Array()
    expect(digestOf(hidden, await engine.ends.logits(hidden))).toBe(expected)
    await Promise.all(runners.map((runner) => runner.close()))
  })

  test('1 row against 40, through layers and head', async () => {
    const { hiddenSize, vocabSize, nLayers } = engine.model.spec
    const rows = sampleRows(40, hiddenSize)
    const logits = await engine.ends.logits(rows)
    const whole = engine.runner.openSession({ span: { start: 0, end: nLayers }, maxContext: 40 })
    const single = engine.runner.openSession({ span: { start: 0, end: nLayers }, maxContext: 40 })
    const out = await whole.forward(0, rows)
    for (let i = 0; i < 40; i++) {
      const row = rows.slice(i * hiddenSize, (i + 1) * hiddenSize)
      expect(digestOf(await single.forward(i, row))).toBe(digestOf(out.slice(i * hiddenSize, (i + 1) * hiddenSize)))
      const expectedLogits = logits.slice(i * vocabSize, (i + 1) * vocabSize)
      expect(digestOf(await engine.ends.logits(row))).toBe(digestOf(expectedLogits))
    }
    whole.close()
    single.close()
  })

  test('a flipped bit at any boundary changes what comes out', async () => {
    const { hiddenSize, nLayers } = engine.model.spec
    const all = Array.from({ length: nLayers - 1 }, (_, i) => i + 1)
    const rows = prompt.slice(0, 4 * hiddenSize)
    const clean = await boundaries(rows, all, null)
    for (const boundary of all) {
      const flipped = await boundaries(rows, all, boundary)
      expect(digestOf(...flipped.slice(0, boundary - 1))).toBe(digestOf(...clean.slice(0, boundary - 1)))
      expect(digestOf(...flipped.slice(boundary)), `after layer ${boundary}`).not.toBe(
        digestOf(...clean.slice(boundary)),
      )
    }
  })

  /** The output of every layer; one bit of what enters layer `flip` is wrong. */
  const boundaries = async (rows: Float32Array, cuts: readonly number[], flip: number | null) => {
    const sessions = openSessions(engine.runner, cuts)
    const outputs: Float32Array[] = []
    let hidden = rows
    for (const [layer, session] of sessions.entries()) {
      if (layer === flip) {
        hidden = hidden.slice()
        const bits = new Uint32Array(hidden.buffer)
        bits[5] = (bits[5] ?? 0) ^ flippedBit
      }
      hidden = await session.forward(0, hidden)
      outputs.push(hidden)
      session.close()
    }
    return outputs
  }
})
