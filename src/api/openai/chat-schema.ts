import { z } from 'zod'
import { profileName } from '../bodies.ts'
import {
  bookkeepingFields,
  lengthFields,
  maxCompletionTokens,
  modelName,
  nodeRequestFields,
  optional,
  samplingFields,
  streamFields,
  unsupported,
} from './fields.ts'

const textPart = z.strictObject({
  type: z.literal('text', {
    error: ({ input }) => `Content parts of type ${JSON.stringify(input)} are not supported; only "text" is.`,
  }),
  text: z.string(),
})

const message = z
  .strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant'], {
      error: ({ input }) => `Messages of the role ${JSON.stringify(input)} are not supported.`,
    }),
    content: optional(z.union([z.string(), z.array(textPart).min(1)])),
    name: optional(z.string().max(256)),
    reasoning_content: optional(z.string().meta({ description: 'The thinking of an earlier answer.' })),
    tool_calls: unsupported('tool_calls', [[]]),
    function_call: unsupported('function_call'),
    refusal: unsupported('refusal'),
    audio: unsupported('audio'),
    annotations: unsupported('annotations', [[]]),
  })
  .refine(({ role, content }) => role === 'assistant' || content !== undefined, {
    path: ['content'],
    error: 'The message has no content.',
  })

const responseFormat = z.strictObject({
  type: z.literal('text', {
    error: ({ input }) => `The response format ${JSON.stringify(input)} is not supported; only "text" is.`,
  }),
})

const templateKwargs = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))

export const chatRequest = z
  .strictObject({
    model: modelName,
    messages: z.array(message).min(1).max(4096),
    ...samplingFields,
    ...lengthFields,
    max_completion_tokens: maxCompletionTokens,
    ...streamFields,
    logprobs: optional(z.boolean()),
    top_logprobs: optional(z.int().min(0).max(20)),
    response_format: optional(responseFormat),
    chat_template_kwargs: optional(
      templateKwargs.meta({ description: 'Beyond OpenAI. Variables of the chat template, as enable_thinking.' }),
    ),
    ...bookkeepingFields,
    ...nodeRequestFields,
    n: unsupported('n', [1]),
    tools: unsupported('tools', [[]]),
    tool_choice: unsupported('tool_choice', ['none', 'auto']),
    parallel_tool_calls: unsupported('parallel_tool_calls', [true, false]),
    functions: unsupported('functions', [[]]),
    function_call: unsupported('function_call', ['none', 'auto']),
    logit_bias: unsupported('logit_bias', [{}]),
    modalities: unsupported('modalities', [['text']]),
    audio: unsupported('audio'),
    prediction: unsupported('prediction'),
    reasoning_effort: unsupported('reasoning_effort'),
    verbosity: unsupported('verbosity', ['medium']),
    web_search_options: unsupported('web_search_options'),
    moderation: unsupported('moderation'),
  })
  .refine((body) => body.top_logprobs === undefined || body.logprobs === true, {
    path: ['top_logprobs'],
    error: 'top_logprobs needs logprobs: true.',
  })
  .refine((body) => body.stream_options === undefined || body.stream === true, {
    path: ['stream_options'],
    error: 'stream_options needs stream: true.',
  })
  .refine(
    ({ max_tokens: one, max_completion_tokens: other }) => one === undefined || other === undefined || one === other,
    { path: ['max_tokens'], error: 'max_tokens and max_completion_tokens say different things.' },
  )

export type ChatRequestBody = z.output<typeof chatRequest>

const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int()).nullable(),
})

export const chatLogprobs = z.object({
  content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })).nullable(),
  refusal: z.null(),
})

export const finishReason = z.enum(['stop', 'length'])

export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({
    cached_tokens: z.int().meta({ description: 'Already computed for an earlier turn.' }),
  }),
})

/** The one place for fields that OpenAI does not have. */
export const nodeFields = z
  .object({
    hops: z
      .array(
        z.object({
          layers: z.string().meta({ description: 'First and last layer, "4-7".' }),
          address: z.string().nullable().meta({ description: 'null: this node.' }),
          ms: z.number().nullable().meta({ description: 'Of one token.' }),
          link_ms: z.number().nullable().meta({ description: 'Estimate for the way to it; null: none.' }),
          reason: z.string().meta({ description: 'Why it was chosen, in words.' }),
        }),
      )
      .meta({ description: 'Who computed which layers.' }),
    exact: z.boolean().meta({ description: 'Byte-identical to a run in one process.' }),
    estimate: z
      .object({ solo: z.number().nullable(), split: z.number().nullable() })
      .meta({ description: 'Tokens per second before anything was computed: alone, and over this route.' }),
    failovers: z.int(),
    changed_at: z.int().nullable().meta({
      description: 'First token that was computed in another numerics class than the first one; null: none.',
    }),
    seen_by: z.int().meta({ description: 'Peers that were sent what the text can be reconstructed from.' }),
    audit: z
      .object({
        state: z.enum(['passed', 'failed', 'skipped']),
        rows: z.int().meta({ description: 'Compared.' }),
        exact: z.boolean().meta({ description: 'Byte by byte; false: within a tolerance, a weaker test.' }),
        liars: z.array(z.string()).meta({ description: 'Addresses, as far as it could be told.' }),
        note: z.string(),
      })
      .nullable()
      .meta({ description: 'What others computed again says about this answer; null: it was not drawn.' }),
    profile: profileName.meta({ description: 'Who could see what.' }),
  })
  .meta({ description: 'What OpenAI does not have.' })

const answerHead = { id: z.string(), created: z.int(), model: z.string(), system_fingerprint: z.string() }

export const chatCompletion = z.object({
  ...answerHead,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: z.literal(0),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string(),
        refusal: z.null(),
        reasoning_content: z.string().optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage,
  llm_node: nodeFields,
})

export const chatChunk = z.object({
  ...answerHead,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: z.literal(0),
      delta: z.object({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        refusal: z.null().optional(),
        reasoning_content: z.string().optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usage.nullable().optional(),
  llm_node: nodeFields.optional(),
})

export type ChatCompletion = z.output<typeof chatCompletion>
export type ChatChunk = z.output<typeof chatChunk>
export type ChatLogprobs = z.output<typeof chatLogprobs>
export type NodeFields = z.output<typeof nodeFields>
export type Usage = z.output<typeof usage>
