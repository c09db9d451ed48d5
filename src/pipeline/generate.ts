import { LlmNodeError } from '../base/errors.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { Drafter } from './drafter.ts'
import { type Sampled, type SamplingParams, sample, type TokenLogprob } from './sampler.ts'

export interface GenerateRequest {
  /** Token ids of the prompt, at least one. */
  readonly promptIds: readonly number[]
  /** Tokens of the answer that were drawn before: it goes on after them. They are not yielded. */
  readonly begun?: readonly number[]
  /** At most so many new tokens, those included; fewer when the session's context ends first. */
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

/** What a generation needs of the layers (session.ts). */
export interface TokenSession {
  /** Tokens that prompt and answer may have in all. */
  readonly maxContext: number
  /** So many ids at most may be in one frame with these: no draft goes beyond. */
  frameEnd(nIds: number): number
  /** What comes out after the last layer for the last `want` of `ids`: [want, hiddenSize]. */
  rows(ids: readonly number[], want: number, options: { signal?: AbortSignal | undefined }): Promise<Float32Array>
}

export interface GenerateDeps {
  readonly ends: Pick<ModelEnds, 'logits'>
  readonly session: TokenSession
  /** Guesses tokens ahead. Without it every step brings one token; the tokens are the same. */
  readonly drafter?: Drafter | undefined
  /** Sees the raw logits [vocabSize] that token `index` is drawn from. */
  readonly onLogits?: (index: number, logits: Float32Array) => void
}

/**
 * One generation over a session: prefill, then step by step; a step brings one token, and one more for each drafted token
 * that turns out to be the one that is drawn. Yields each token; an end token is not yielded. Returns why it ended.
 * Throws what the session throws, BAD_INPUT, CONTEXT_TOO_LONG, ABORTED.
 */
export async function* generate(
  request: GenerateRequest,
  deps: GenerateDeps,
): AsyncGenerator<GeneratedToken, FinishReason> {
  const { promptIds, begun = [], maxTokens, signal } = request
  const { ends, session, drafter } = deps
  checkRequest(request, session)
  const endTokens = new Set(request.endTokens)
  const transcript = [...promptIds, ...begun]
  let draft: readonly number[] = []
  let index = begun.length
  if (index >= maxTokens || (index > 0 && transcript.length >= session.maxContext)) return 'length'
  for (;;) {
    signal?.throwIfAborted()
    const startedMs = performance.now()
    const rows = await session.rows(transcript.concat(draft), draft.length + 1, { signal })
    const logits = await ends.logits(rows)
    const ms = performance.now() - startedMs
    const drawn = drawStep(logits, draft, { transcript, request, index })
    if (index > begun.length) drafter?.learn({ drafted: draft.length, accepted: drawn.length - 1, ms })
    for (const token of drawn) {
      deps.onLogits?.(index, token.logits)
      if (endTokens.has(token.sampled.id)) return 'stop'
      transcript.push(token.sampled.id)
      yield { index, ...token.sampled }
      index++
      if (index >= maxTokens || transcript.length >= session.maxContext) return 'length'
    }
    // A row more than the tokens that may still come would be for nothing, and none may lie beyond the context or the limit.
    const room = Math.min(maxTokens - index - 1, session.frameEnd(transcript.length) - transcript.length)
    draft = drafter?.propose(transcript, room) ?? []
  }
}

interface DrawnToken {
  readonly sampled: Sampled
  readonly logits: Float32Array
}

/**
 * Draws from row after row as long as the draft has said the same: a row counts only when all ids before it are the ones
 * that were drawn, so these are the draws of a generation without drafts (engine.md §8).
 */
function drawStep(
  logits: Float32Array,
  draft: readonly number[],
  at: { transcript: readonly number[]; request: GenerateRequest; index: number },
): DrawnToken[] {
  const { sampling, promptIds } = at.request
  const width = logits.length / (draft.length + 1)
  const history = { ids: [...at.transcript], promptLength: promptIds.length }
  const drawn: DrawnToken[] = []
  for (let row = 0; row <= draft.length; row++) {
    const rowLogits = logits.subarray(row * width, (row + 1) * width)
    const sampled = sample(rowLogits, sampling, history, at.index + row)
    drawn.push({ sampled, logits: rowLogits })
    if (sampled.id !== draft[row]) break
    history.ids.push(sampled.id)
  }
  return drawn
}

function checkRequest(request: GenerateRequest, session: TokenSession): void {
  const { promptIds, maxTokens } = request
  if (promptIds.length === 0) throw new LlmNodeError('BAD_INPUT', 'The prompt is empty.')
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new LlmNodeError('BAD_INPUT', `${maxTokens} is not a number of tokens.`)
  }
  if (promptIds.length >= session.maxContext) {
    throw new LlmNodeError(
      'CONTEXT_TOO_LONG',
      `The prompt has ${promptIds.length} tokens; this session holds ${session.maxContext}, the answer included.`,
      { hint: 'Shorten the prompt.', meta: { promptTokens: promptIds.length, maxContext: session.maxContext } },
    )
  }
}
