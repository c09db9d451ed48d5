/** What transformers computes for one small model per case (tests/golden), and for the demo model. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { argmax, lastRow, openEngine, runChain, spansAt, type TestEngine } from '../helpers/engine.ts'
import { readF32 } from '../helpers/golden-tensors.ts'

interface GoldenCase {
  readonly name: string
  readonly file: string
  readonly prompt_ids: readonly number[]
  readonly greedy_ids: readonly number[]
}

const golden = 'tests/golden'
const fixtures = readdirSync(golden).filter((name) => existsSync(join(golden, name, 'expected.json')))

const casesOf = (folder: string): GoldenCase[] =>
  JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')).cases as GoldenCase[]

/** Largest difference as a share of the largest expected value. */
function distance(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length)
  let largest = 0
  let apart = 0
  for (const [i, value] of expected.entries()) {
    largest = Math.max(largest, Math.abs(value))
    apart = Math.max(apart, Math.abs(value - (actual[i] ?? Number.NaN)))
  }
  return apart / largest
}

const tolerance = 2e-4

describe.each(fixtures)('%s', (fixture) => {
  const folder = join(golden, fixture)
  let engine: TestEngine

  beforeAll(async () => {
    engine = await openEngine(folder, 'f32/1', { threads: 2 })
  })
  afterAll(() => engine.close())

  test.each(casesOf(folder))('$name', async ({ file, name, prompt_ids: prompt, greedy_ids: greedy }) => {
    const { spec } = engine.model
    const expected = readF32(join(folder, file))
    const tensor = (key: string) => expected.get(key) ?? new Float32Array()
    const longRope = spec.rope.scaling.type === 'longrope' && name === 'long'
    const everyLayer = Array.from({ length: spec.nLayers - 1 }, (_, i) => i + 1)
    const maxContext = prompt.length + greedy.length
    const sessions = spansAt(spec.nLayers, everyLayer).map((span) =>
      engine.runner.openSession({ span, maxContext, longRope }),
    )
    const embedded = await engine.ends.embed(prompt)
    expect(distance(embedded, tensor('hidden.0'))).toBe(0)

    // LongRoPE is chosen by the whole length: chunks may not end before the limit, so the prompt goes in one piece.
    const layers = await runChain(sessions, embedded, spec.hiddenSize, longRope ? prompt.length : 64)
    for (const [i, hidden] of layers.entries()) {
      expect(distance(hidden, tensor(`hidden.${i + 1}`)), `hidden.${i + 1}`).toBeLessThan(tolerance)
    }
    const hidden = layers.at(-1) ?? new Float32Array()
    const logits = await engine.ends.logits(hidden)
    expect(distance(logits, tensor('logits'))).toBeLessThan(tolerance)

    const decoded: number[] = []
    const steps: Float32Array[] = [lastRow(logits, spec.vocabSize)]
    for (const _ of greedy) {
      const id = argmax(steps.at(-1) ?? new Float32Array())
      decoded.push(id)
      if (decoded.length === greedy.length) break
      const outputs = await runChain(sessions, await engine.ends.embed([id]), spec.hiddenSize, 1)
      steps.push(await engine.ends.logits(outputs.at(-1) ?? new Float32Array()))
    }
    expect(decoded).toEqual(greedy)
    const all = new Float32Array(greedy.length * spec.vocabSize)
    for (const [i, row] of steps.entries()) all.set(row, i * spec.vocabSize)
    expect(distance(all, tensor('decode_logits'))).toBeLessThan(tolerance)
    for (const session of sessions) session.close()
  })
})

describe('demo model', () => {
  const folder = 'models/demo-qwen3'
  let engine: TestEngine
  beforeAll(async () => {
    engine = await openEngine(folder, 'f32/1', { threads: 2 })
  })
  afterAll(() => engine.close())

  test('greedy ids', async () => {
    const { nLayers, hiddenSize } = engine.model.spec
    for (const { prompt_ids: prompt, greedy_ids: greedy } of casesOf(folder)) {
      const maxContext = prompt.length + greedy.length
      const session = engine.runner.openSession({ span: { start: 0, end: nLayers }, maxContext })
      const decoded: number[] = []
      let next: readonly number[] = prompt
      while (decoded.length < greedy.length) {
        const hidden = await session.forward(session.length, await engine.ends.embed(next))
        const id = argmax(await engine.ends.logits(lastRow(hidden, hiddenSize)))
        decoded.push(id)
        next = [id]
      }
      expect(decoded).toEqual(greedy)
      session.close()
    }
  })
})
