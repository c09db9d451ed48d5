import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Chain } from './chain.ts'
import { type SamplingParams, sample, type TokenLogprob } from './sampler.ts'

export interface GenerateRequest {
  /** Token ids of the prompt, at least one. */
  readonly promptIds: readonly number[]
  /** At most so many new tokens; fewer when the chain's context ends first. */
  readonly maxTokens: number
  readonly sampling: SamplingParams
  /** Ids that end the answer; the id itself is not part of it. */
  readonly endTokens: readonly number[]
  readonly signal?: AbortSignal
}

export interface GeneratedToken {
  readonly index: number
  readonly id: number
  /** Natural logarithm of the probability that the model gave the token; only with `sampling.logprobs`. */
  readonly logprob?: number
  readonly top?: readonly TokenLogprob[]
}

/** `stop`: an end token; `length`: maxTokens or the context is used up. */
export type FinishReason = 'stop' | 'length'

export interface GenerateDeps {
  readonly ends: ModelEnds
  readonly chain: Chain
  readonly hiddenSize: number
  /** Sees the raw logits [vocabSize] that token `index` is drawn from, before it is drawn. */
  readonly onLogits?: (index: number, logits: Float32Array) => void
}

/**
 * One generation over a chain: prefill in chunks, then token by token. Yields each token as it is drawn; an end token is
 * not yielded. Returns why it ended. Throws what the chain throws, BAD_INPUT, CONTEXT_TOO_LONG, ABORTED.
 */
export async function* generate(
  request: GenerateRequest,
  deps: GenerateDeps,
): AsyncGenerator<GeneratedToken, FinishReason> {
  const { promptIds, sampling, signal } = request
  const { ends, chain, hiddenSize } = deps
  checkRequest(request, chain)
  const endTokens = new Set(request.endTokens)
  const transcript = [...promptIds]
  let hidden = await prefill(promptIds, deps, signal)
  for (let index = 0; ; index++) {
    signal?.throwIfAborted()
    const logits = await ends.logits(hidden)
    deps.onLogits?.(index, logits)
    const drawn = sample(logits, sampling, { ids: transcript, promptLength: promptIds.length }, index)
    if (endTokens.has(drawn.id)) return 'stop'
    transcript.push(drawn.id)
    yield { index, ...drawn }
    if (index + 1 >= request.maxTokens || transcript.length >= chain.maxContext) return 'length'
    const embedded = await ends.embed([drawn.id])
    hidden = await orAborted(
      chain.forward({ pos: transcript.length - 1, hidden: embedded.subarray(0, hiddenSize), want: 1 }),
      signal,
    )
  }
}

/** Runs the prompt through the chain in chunks, several under way at once; resolves with the last row [hiddenSize]. */
async function prefill(ids: readonly number[], deps: GenerateDeps, signal?: AbortSignal): Promise<Float32Array> {
  const { ends, chain } = deps
  const chunkRows = Math.min(chain.maxRows, pipelineLimits.prefillRows)
  const pending: Promise<Float32Array>[] = []
  for (let pos = 0; pos < ids.length; pos += chunkRows) {
    signal?.throwIfAborted()
    const chunk = ids.slice(pos, pos + chunkRows)
    const hidden = await ends.embed(chunk)
    const answer = chain.forward({ pos, hidden, want: pos + chunk.length === ids.length ? 1 : 0 })
    // A failure is seen when its turn comes below; until then it must not count as unhandled.
    answer.catch(() => {})
    pending.push(answer)
    if (pending.length > pipelineLimits.prefillFramesUnderWay) await orAborted(pending.shift(), signal)
  }
  let last: Float32Array | undefined
  for (const answer of pending) last = await orAborted(answer, signal)
  if (last === undefined) throw new LlmNodeError('INTERNAL', 'The prompt was not answered.')
  return last
}

function checkRequest(request: GenerateRequest, chain: Chain): void {
  const { promptIds, maxTokens } = request
  if (promptIds.length === 0) throw new LlmNodeError('BAD_INPUT', 'The prompt is empty.')
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new LlmNodeError('BAD_INPUT', `${maxTokens} is not a number of tokens.`)
  }
  if (promptIds.length >= chain.maxContext) {
    throw new LlmNodeError(
      'CONTEXT_TOO_LONG',
      `The prompt has ${promptIds.length} tokens; this session holds ${chain.maxContext}, the answer included.`,
      { hint: 'Shorten the prompt.', meta: { promptTokens: promptIds.length, maxContext: chain.maxContext } },
    )
  }
}

/** The promise's outcome, or ABORTED as soon as the signal fires. */
async function orAborted<T>(promise: Promise<T> | undefined, signal?: AbortSignal): Promise<T> {
  if (promise === undefined) throw new LlmNodeError('INTERNAL', 'Nothing to wait for.')
  if (signal === undefined) return promise
  signal.throwIfAborted()
  let onAbort: () => void = () => {}
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new LlmNodeError('ABORTED', 'Stopped on request.'))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
