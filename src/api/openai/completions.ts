import type { AnswerToken } from '../../pipeline/answer-tokens.ts'
import type { ApiContext } from '../caller.ts'
import type { GenerationCall } from '../inference.ts'
import type { AskResult } from '../types.ts'
import {
  type CompletionLogprobs,
  type CompletionRequestBody,
  completionRequest,
  type TextCompletion,
} from './completion-schema.ts'
import { nodeFieldsOf, resolveTarget, runOf, samplingOf, stopsOf, usageOf } from './generation.ts'
import { account, type OpenAiParts, readBody, type Visit, visit } from './parts.ts'
import { dataLine, doneLine } from './sse.ts'
import { streamAnswer, wholeAnswer } from './stream-answer.ts'

type AnswerHead = Pick<TextCompletion, 'id' | 'object' | 'created' | 'model' | 'system_fingerprint'>

/** OpenAI's own default of this endpoint. */
const DEFAULT_MAX_TOKENS = 16

/** POST /v1/completions: a text as it is, without a chat template. */
export async function completions(c: ApiContext, parts: OpenAiParts): Promise<Response> {
  const body = await readBody(c, completionRequest)
  const target = resolveTarget(parts.inference.models(), body.model)
  const head: AnswerHead = {
    id: `cmpl-${parts.newId()}`,
    object: 'text_completion',
    created: Math.floor(parts.nowMs() / 1000),
    model: body.model,
    system_fingerprint: target.fingerprint,
  }
  const call: GenerationCall = {
    id: head.id,
    model: target.name,
    where: target.where,
    via: target.via,
    prompt: body.prompt,
    maxTokens: body.max_tokens ?? DEFAULT_MAX_TOKENS,
    sampling: samplingOf(body, body.logprobs),
    stop: stopsOf(body.stop),
    ignoreEnd: body.ignore_eos === true,
    profile: body.llm_node?.profile,
    owner: `key ${c.var.caller.name ?? ''}`,
    ...runOf(body),
  }
  const visited = await visit(c, parts, call)
  const reading = { c, parts, body, visited, head }
  if (body.stream !== true) return wholeAnswer(reading, () => readWhole(reading))
  return streamAnswer(reading, streamLines(reading))
}

function echoOf({ echo, prompt }: CompletionRequestBody): string {
  return echo === true && 'text' in prompt ? prompt.text : ''
}

async function readWhole({ c, parts, body, visited, head }: ReadOptions): Promise<TextCompletion> {
  const { opened } = visited
  let text = echoOf(body)
  const tokens: AnswerToken[] = []
  let result: AskResult | undefined
  for await (const event of opened.events) {
    if (event.type === 'text') {
      text += event.text
      tokens.push(...(event.tokens ?? []))
    } else if (event.type === 'done') result = event.result
  }
  if (result === undefined) throw new Error('The generation ended without a result.')
  const usage = usageOf(result)
  account(c, parts, usage)
  const logprobs = body.logprobs === undefined ? null : logprobsOf(tokens, body.logprobs)
  return {
    ...head,
    choices: [{ index: 0, text, logprobs, finish_reason: result.finishReason }],
    usage,
    llm_node: nodeFieldsOf(result),
  }
}

interface ReadOptions {
  readonly c: ApiContext
  readonly parts: OpenAiParts
  readonly body: CompletionRequestBody
  readonly visited: Visit
  readonly head: AnswerHead
}

async function* streamLines({ c, parts, body, visited, head }: ReadOptions): AsyncGenerator<string> {
  const { opened } = visited
  const withUsage = body.stream_options?.include_usage === true
  const frame = { ...head, ...(withUsage ? { usage: null } : {}) }
  type Choice = TextCompletion['choices'][number]
  const chunk = (text: string, change: Partial<Choice> = {}, more: Partial<TextCompletion> = {}) =>
    dataLine({
      ...frame,
      choices: [{ index: 0, text, logprobs: null, finish_reason: null, ...change }],
      ...more,
    } satisfies TextCompletion)
  const echo = echoOf(body)
  if (echo !== '') yield chunk(echo)
  for await (const event of opened.events) {
    if (event.type === 'text') {
      const { tokens = [] } = event
      const logprobs = body.logprobs === undefined || tokens.length === 0 ? null : logprobsOf(tokens, body.logprobs)
      yield chunk(event.text, { logprobs })
    }
    if (event.type !== 'done') continue
    const usage = usageOf(event.result)
    account(c, parts, usage)
    yield chunk('', { finish_reason: event.result.finishReason }, { llm_node: nodeFieldsOf(event.result) })
    if (withUsage) yield dataLine({ ...frame, choices: [], usage } satisfies TextCompletion)
    yield doneLine
  }
}

/** The older shape: lists side by side. Of two tokens with the same text the more probable one is kept; the drawn one
 * is always there, so there may be one more than asked for. */
function logprobsOf(tokens: readonly AnswerToken[], nTop: number): CompletionLogprobs {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs:
      nTop === 0
        ? null
        : tokens.map((token) => {
            const all = token.top.some(({ id }) => id === token.id) ? token.top : [...token.top, token]
            return Object.fromEntries([...all].reverse().map(({ text, logprob }) => [text, logprob]))
          }),
    text_offset: tokens.map(({ offset }) => offset),
  }
}
