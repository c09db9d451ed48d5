import type { AnswerToken, TokenText } from '../../pipeline/answer-tokens.ts'
import type { ApiContext } from '../caller.ts'
import type { GenerationCall } from '../inference.ts'
import type { AskResult } from '../types.ts'
import {
  type ChatChunk,
  type ChatCompletion,
  type ChatLogprobs,
  type ChatRequestBody,
  chatRequest,
} from './chat-schema.ts'
import { nodeFieldsOf, resolveTarget, runOf, samplingOf, stopsOf, type Target, usageOf } from './generation.ts'
import { account, type OpenAiParts, readBody, type Visit, visit } from './parts.ts'
import { createReasoningSplitter } from './reasoning.ts'
import { dataLine, doneLine } from './sse.ts'
import { streamAnswer, wholeAnswer } from './stream-answer.ts'

type AnswerHead = Pick<ChatCompletion, 'id' | 'created' | 'model' | 'system_fingerprint'>

/** POST /v1/chat/completions. Throws before the answer begins, later tells a failure in the stream. */
export async function chatCompletions(c: ApiContext, parts: OpenAiParts): Promise<Response> {
  const body = await readBody(c, chatRequest)
  const target = resolveTarget(parts.inference.models(), body.model)
  const head = headOf(parts, target, body.model)
  const call: GenerationCall = {
    id: head.id,
    model: target.name,
    where: target.where,
    via: target.via,
    prompt: { messages: messagesOf(body), templateKwargs: body.chat_template_kwargs },
    maxTokens: body.max_completion_tokens ?? body.max_tokens,
    sampling: samplingOf(body, body.logprobs === true ? (body.top_logprobs ?? 0) : undefined),
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

function headOf(parts: OpenAiParts, { fingerprint }: Target, model: string): AnswerHead {
  const created = Math.floor(parts.nowMs() / 1000)
  return { id: `chatcmpl-${parts.newId()}`, created, model, system_fingerprint: fingerprint }
}

function messagesOf({ messages }: ChatRequestBody) {
  return messages.map(({ role, content, name, reasoning_content }) => ({
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : (content ?? []).map((part) => part.text).join('\n'),
    ...(name === undefined ? {} : { name }),
    ...(reasoning_content === undefined ? {} : { reasoning_content }),
  }))
}

async function readWhole({ c, parts, body, visited, head }: ReadOptions): Promise<ChatCompletion> {
  const { opened } = visited
  const splitter = createReasoningSplitter(opened.route.thinking)
  const whole = { reasoning: '', content: '' }
  const tokens: AnswerToken[] = []
  let result: AskResult | undefined
  const add = (part: { reasoning: string; content: string }) => {
    whole.reasoning += part.reasoning
    whole.content += part.content
  }
  for await (const event of opened.events) {
    if (event.type === 'text') {
      add(splitter.push(event.text))
      tokens.push(...(event.tokens ?? []))
    } else if (event.type === 'done') result = event.result
  }
  add(splitter.flush())
  if (result === undefined) throw new Error('The generation ended without a result.')
  const usage = usageOf(result)
  account(c, parts, usage)
  const { reasoning, content } = whole
  return {
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content,
          refusal: null,
          ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
        },
        logprobs: body.logprobs === true ? logprobsOf(tokens) : null,
        finish_reason: result.finishReason,
      },
    ],
    usage,
    llm_node: nodeFieldsOf(result),
  }
}

interface ReadOptions {
  readonly c: ApiContext
  readonly parts: OpenAiParts
  readonly body: ChatRequestBody
  readonly visited: Visit
  readonly head: AnswerHead
}

/** The role, then text as it comes, an empty last delta with the reason of the end, the usage if wished, [DONE]. */
async function* streamLines({ c, parts, body, visited, head }: ReadOptions): AsyncGenerator<string> {
  const { opened } = visited
  const withUsage = body.stream_options?.include_usage === true
  const frame = { ...head, object: 'chat.completion.chunk' as const, ...(withUsage ? { usage: null } : {}) }
  type Choice = ChatChunk['choices'][number]
  const chunk = (delta: Choice['delta'], change: Partial<Choice> = {}, more: Partial<ChatChunk> = {}) =>
    dataLine({
      ...frame,
      choices: [{ index: 0, delta, logprobs: null, finish_reason: null, ...change }],
      ...more,
    } satisfies ChatChunk)
  const splitter = createReasoningSplitter(opened.route.thinking)
  const deltas = function* (part: { reasoning: string; content: string }, tokens: readonly AnswerToken[] = []) {
    let logprobs = tokens.length === 0 ? {} : { logprobs: logprobsOf(tokens) }
    if (part.reasoning !== '') {
      yield chunk({ reasoning_content: part.reasoning }, logprobs)
      logprobs = {}
    }
    if (part.content !== '' || 'logprobs' in logprobs) yield chunk({ content: part.content }, logprobs)
  }
  yield chunk({ role: 'assistant', content: '', refusal: null })
  for await (const event of opened.events) {
    if (event.type === 'text') yield* deltas(splitter.push(event.text), event.tokens)
    if (event.type !== 'done') continue
    yield* deltas(splitter.flush())
    const usage = usageOf(event.result)
    account(c, parts, usage)
    yield chunk({}, { finish_reason: event.result.finishReason }, { llm_node: nodeFieldsOf(event.result) })
    if (withUsage) yield dataLine({ ...frame, choices: [], usage } satisfies ChatChunk)
    yield doneLine
  }
}

function logprobsOf(tokens: readonly AnswerToken[]): ChatLogprobs {
  const item = ({ text, logprob, bytes }: TokenText) => ({ token: text, logprob, bytes: [...bytes] })
  return { content: tokens.map((token) => ({ ...item(token), top_logprobs: token.top.map(item) })), refusal: null }
}
