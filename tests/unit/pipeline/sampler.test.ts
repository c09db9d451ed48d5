import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { distribution, neutralSampling, type SamplingParams, sample } from '../../../src/pipeline/sampler.ts'
import { uniformAt } from '../../../src/pipeline/splitmix.ts'

interface GoldenCase {
  name: string
  params: {
    temperature?: number
    top_k?: number
    top_p?: number
    min_p?: number
    repetition_penalty?: number
    frequency_penalty?: number
    presence_penalty?: number
    prompt_ids?: number[]
    generated_ids?: number[]
  }
  logits: number[]
  kept_ids: number[]
  probabilities: number[]
}

const golden: { cases: GoldenCase[] } = JSON.parse(
  readFileSync(new URL('../../golden/sampling.json', import.meta.url), 'utf8'),
)
const noHistory = { ids: [], promptLength: 0 }

function paramsOf({ params, logits }: GoldenCase): SamplingParams {
  return {
    temperature: params.temperature ?? 1,
    topK: params.top_k ?? 0,
    topP: params.top_p ?? 1,
    minP: params.min_p ?? 0,
    repetitionPenalty: params.repetition_penalty ?? 1,
    frequencyPenalty: params.frequency_penalty ?? 0,
    presencePenalty: params.presence_penalty ?? 0,
    seed: 7,
    nTokens: logits.length,
  }
}

function historyOf({ params: { prompt_ids = [], generated_ids = [] } }: GoldenCase) {
  return { ids: [...prompt_ids, ...generated_ids], promptLength: prompt_ids.length }
}

const plain = (nTokens: number): SamplingParams => ({ ...neutralSampling, seed: 3, nTokens })
const logitsArbitrary = fc
  .array(fc.integer({ min: -60, max: 60 }), { minLength: 1, maxLength: 200 })
  .map((quarters) => Float32Array.from(quarters, (quarter) => quarter / 4))

describe('against transformers (tests/golden/sampling.json)', () => {
  test.each(golden.cases.map((each) => [each.name, each] as const))('%s', (_name, each) => {
    const kept = distribution(Float32Array.from(each.logits), paramsOf(each), historyOf(each))
    expect(kept.map(({ id }) => id).sort((a, b) => a - b)).toEqual(each.kept_ids)
    for (const { id, probability } of kept) {
      expect(Math.abs(probability - (each.probabilities[id] ?? Number.NaN)), `id ${id}`).toBeLessThanOrEqual(1e-5)
    }
  })

  test.each(golden.cases.map((each) => [each.name, each] as const))('draws follow: %s', (_name, each) => {
    const [logits, params, history] = [Float32Array.from(each.logits), paramsOf(each), historyOf(each)]
    const kept = distribution(logits, params, history)
    for (let index = 0; index < 200; index++) {
      const uniform = uniformAt(params.seed, index)
      let sum = 0
      const expected = kept.find(({ probability }) => {
        sum += probability
        return uniform < sum
      })
      expect(sample(logits, params, history, index).id).toBe(expected?.id)
    }
  })
})

test('the order is by probability, ties by lower id, in every way of filtering', () => {
  fc.assert(
    fc.property(
      logitsArbitrary,
      fc.nat(300),
      fc.double({ min: 0.05, max: 4, noNaN: true }),
      (logits, topK, temperature) => {
        const kept = distribution(logits, { ...plain(logits.length), topK, temperature }, noHistory)
        const sorted = Array.from(logits, (logit, id) => ({ logit, id })).sort(
          (a, b) => b.logit - a.logit || a.id - b.id,
        )
        const border = sorted[topK - 1]?.logit ?? Number.NEGATIVE_INFINITY
        expect(kept.map(({ id }) => id)).toEqual(sorted.filter(({ logit }) => logit >= border).map(({ id }) => id))
        expect(kept.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 9)
      },
    ),
  )
})

test('greedy ties take the lowest id', () => {
  expect(sample(Float32Array.of(1, 5, 5, 2), { ...plain(4), temperature: 0 }, noHistory, 0).id).toBe(1)
})

test('a temperature of almost nothing is greedy', () => {
  const logits = Float32Array.of(1, 5, 5.25, 2)
  for (const temperature of [1e-6, 1e-300, 5e-324]) {
    expect(sample(logits, { ...plain(4), temperature }, noHistory, 0).id).toBe(2)
  }
})

test('ids beyond the tokenizer are never sampled and have no share', () => {
  const logits = Float32Array.of(1, 1, 9, 9)
  for (let index = 0; index < 50; index++) expect(sample(logits, plain(2), noHistory, index).id).toBeLessThan(2)
  expect(sample(logits, { ...plain(2), temperature: 0, logprobs: 4 }, noHistory, 0)).toEqual({
    id: 0,
    logprob: -Math.log(2),
    top: [
      { id: 0, logprob: -Math.log(2) },
      { id: 1, logprob: -Math.log(2) },
    ],
  })
})

test('logprobs are those of the model, before penalties, temperature and filters', () => {
  const logits = Float32Array.of(Math.log(1), Math.log(2), Math.log(4), Math.log(1))
  const params = { ...plain(4), temperature: 0, repetitionPenalty: 100, logprobs: 2 }
  const { id, logprob, top } = sample(logits, params, { ids: [2], promptLength: 1 }, 0)
  expect(id).toBe(1)
  expect(logprob).toBeCloseTo(Math.log(2 / 8), 6)
  expect(top?.map((token) => token.id)).toEqual([2, 1])
  expect(sample(logits, { ...params, logprobs: 0 }, noHistory, 0).top).toEqual([])
})

test('the draw of a token depends on seed and index, not on what was drawn before', () => {
  const logits = new Float32Array(1000)
  const run = (seed: number) =>
    Array.from({ length: 50 }, (_, index) => sample(logits, { ...plain(1000), seed }, noHistory, index).id)
  expect(run(1)).toEqual(run(1))
  expect(run(1)).not.toEqual(run(2))
  expect(sample(logits, { ...plain(1000), seed: 1 }, { ids: [5, 6], promptLength: 1 }, 17).id).toBe(run(1)[17])
})

test('frequencies of many draws follow the probabilities', () => {
  const logits = Float32Array.of(Math.log(1), Math.log(2), Math.log(4), Math.log(1))
  const counts = [0, 0, 0, 0]
  for (let index = 0; index < 8000; index++) {
    const { id } = sample(logits, plain(4), noHistory, index)
    counts[id] = (counts[id] ?? 0) + 1
  }
  for (const [id, share] of [1, 2, 4, 1].entries()) expect((counts[id] ?? 0) / 1000).toBeCloseTo(share, 0)
})

test.each([Number.NaN, Number.POSITIVE_INFINITY])('a logit of %s is the engine’s fault, not a token', (bad) => {
  for (const temperature of [0, 1]) {
    expect(() => sample(Float32Array.of(1, bad, 3), { ...plain(3), temperature }, noHistory, 0)).toThrow(
      expect.objectContaining({ code: 'ENGINE_FAILED' }),
    )
  }
})
