import { LlmNodeError } from '../base/errors.ts'
import { descendingRuns, topIds, type Values } from './descending.ts'
import { uniformAt } from './splitmix.ts'

/** How one answer is drawn, complete: defaults are filled in before (`neutralSampling`, the model's, the request's). */
export interface SamplingParams {
  /** 0: greedy; the filters are then without effect, the penalties are not. */
  readonly temperature: number
  /** 0: off. */
  readonly topK: number
  /** 1: off. */
  readonly topP: number
  /** 0: off. Relative to the largest probability. */
  readonly minP: number
  /** 1: off. Over prompt and answer. */
  readonly repetitionPenalty: number
  /** 0: off. Over the answer, by count. */
  readonly frequencyPenalty: number
  /** 0: off. Over the answer. */
  readonly presencePenalty: number
  /** A safe integer. */
  readonly seed: number
  /** Ids that the tokenizer knows: those at or above are never sampled, and are no part of any probability here. */
  readonly nTokens: number
  /** Also report the logarithm of the token's probability and so many of the best ones. Costs a pass over all logits. */
  readonly logprobs?: number
}

/** Every step off, as in shared test vectors; the seed and nTokens are the caller's. */
export const neutralSampling = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
} as const

/** What has been said before the token to draw: prompt ids, then generated ids. */
export interface History {
  readonly ids: readonly number[]
  readonly promptLength: number
}

export interface TokenLogprob {
  readonly id: number
  /** Natural logarithm of the probability. */
  readonly logprob: number
}

export interface Sampled {
  readonly id: number
  /** What the model itself gave the token: before penalties, temperature and filters. Only with `params.logprobs`. */
  readonly logprob?: number
  /** The `params.logprobs` most probable tokens, best first; ties by lower id. */
  readonly top?: readonly TokenLogprob[]
}

/**
 * Draws generated token `index` from logits [vocabSize]. Pure: the same arguments give the same token on every machine
 * and in every replay, for nothing but (seed, index) decides the draw. Order of the steps: repetition, frequency and
 * presence penalty, temperature, top_k, top_p, min_p, as in transformers. Throws ENGINE_FAILED on NaN or +Infinity.
 */
export function sample(logits: Float32Array, params: SamplingParams, history: History, index: number): Sampled {
  const known = logits.subarray(0, params.nTokens)
  const values = penalise(known, params, history)
  const id = params.temperature === 0 ? largest(values).id : draw(values, params, uniformAt(params.seed, index))
  if (params.logprobs === undefined) return { id }
  const logprobOf = logSoftmax(known)
  const best = params.logprobs > 0 ? topIds(known, params.logprobs).subarray(0, params.logprobs) : []
  return { id, logprob: logprobOf(id), top: Array.from(best, (top) => ({ id: top, logprob: logprobOf(top) })) }
}

/** The distribution that `sample` draws from: kept ids, most probable first, with their probabilities. */
export function distribution(
  logits: Float32Array,
  params: SamplingParams,
  history: History,
): readonly { readonly id: number; readonly probability: number }[] {
  const values = penalise(logits.subarray(0, params.nTokens), params, history)
  if (params.temperature === 0) return [{ id: largest(values).id, probability: 1 }]
  const pool = createPool(values, params)
  const { ids, mass } = filter(pool, params)
  return ids.map((id) => ({ id, probability: pool.weightOf(id) / mass }))
}

/** Logits after the penalties; the argument itself when none is on. f64: the division must not round to f32. */
function penalise(logits: Float32Array, params: SamplingParams, history: History): Values {
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = params
  if (repetitionPenalty === 1 && frequencyPenalty === 0 && presencePenalty === 0) return logits
  const values = Float64Array.from(logits)
  const countOf = new Map<number, number>()
  for (const [i, id] of history.ids.entries()) {
    countOf.set(id, (countOf.get(id) ?? 0) + (i < history.promptLength ? 0 : 1))
  }
  for (const [id, count] of countOf) {
    const logit = values[id]
    if (logit === undefined) continue
    const repeated = logit < 0 ? logit * repetitionPenalty : logit / repetitionPenalty
    values[id] = repeated - count * frequencyPenalty - (count > 0 ? presencePenalty : 0)
  }
  return values
}

/** The largest value and the lowest id that has it. */
function largest(values: Values): { readonly id: number; readonly value: number } {
  let id = -1
  let value = Number.NEGATIVE_INFINITY
  let ordered = true
  for (let i = 0; i < values.length; i++) {
    const candidate = values[i] as number
    if (candidate > value) {
      value = candidate
      id = i
    } else if (Number.isNaN(candidate)) ordered = false
  }
  if (!ordered || !Number.isFinite(value)) {
    throw new LlmNodeError('ENGINE_FAILED', 'The logits of this step are not numbers.', {
      hint: 'The weights or the engine are at fault: run llm-node models verify and llm-node doctor.',
    })
  }
  return { id, value }
}

/** The candidates after temperature and top_k: unnormalised probabilities, the largest 1, and their sum. */
interface Pool {
  /** Ids in the order of the draw, each run sorted when it is reached. */
  readonly runs: Iterable<Uint32Array>
  readonly total: number
  weightOf(id: number): number
}

function createPool(values: Values, { temperature, topK }: SamplingParams): Pool {
  const max = largest(values).value
  const weightOf = (id: number) => Math.exp(((values[id] as number) - max) / temperature)
  let total = 0
  if (topK === 0 || topK >= values.length) {
    for (let id = 0; id < values.length; id++) total += weightOf(id)
    return { runs: descendingRuns(values, max, temperature), total, weightOf }
  }
  const ids = topIds(values, topK)
  for (const id of ids) total += weightOf(id)
  return { runs: [ids], total, weightOf }
}

/**
 * The ids that top_p and min_p keep, and the sum of their weights. Both keep a beginning of the order: top_p the tokens
 * before which less than its share lies, min_p those of at least its part of the largest. One is always kept.
 */
function filter(pool: Pool, { topP, minP }: SamplingParams): { readonly ids: number[]; readonly mass: number } {
  const ids: number[] = []
  let mass = 0
  for (const run of pool.runs) {
    for (const id of run) {
      const weight = pool.weightOf(id)
      const dropped = (topP < 1 && mass >= topP * pool.total) || weight < minP
      if (ids.length > 0 && dropped) return { ids, mass }
      ids.push(id)
      mass += weight
    }
  }
  return { ids, mass }
}

/** Inverse of the cumulative distribution at `uniform`. */
function draw(values: Values, params: SamplingParams, uniform: number): number {
  const pool = createPool(values, params)
  if (params.topP >= 1 && params.minP === 0) return pick(pool.runs, pool, uniform * pool.total)
  const { ids, mass } = filter(pool, params)
  return pick([ids], pool, uniform * mass)
}

/** The id in whose part of the line `target` lies; rounding past the end gives the last id with any weight. */
function pick(runs: Iterable<Iterable<number>>, pool: Pool, target: number): number {
  let last = -1
  let sum = 0
  for (const run of runs) {
    for (const id of run) {
      const weight = pool.weightOf(id)
      if (weight === 0) return last
      sum += weight
      last = id
      if (target < sum) return id
    }
  }
  return last
}

/** id → log of its softmax probability. */
function logSoftmax(logits: Float32Array): (id: number) => number {
  const max = largest(logits).value
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += Math.exp((logits[id] as number) - max)
  const logSum = Math.log(sum)
  return (id) => (logits[id] as number) - max - logSum
}
