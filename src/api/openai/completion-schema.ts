import { z } from 'zod'
import { finishReason, nodeFields, usage } from './chat-schema.ts'
import {
  bookkeepingFields,
  ids,
  lengthFields,
  modelName,
  nodeRequestFields,
  optional,
  samplingFields,
  streamFields,
  unsupported,
} from './fields.ts'

const prompt = z
  .union([z.string(), ids, z.array(z.string()).min(1), z.array(ids).min(1)])
  .refine((given) => typeof given === 'string' || given.length === 1 || isNumber(given[0]), {
    error: 'Several prompts in one request are not supported.',
  })
  .transform((given): { text: string } | { ids: number[] } => {
    const value = typeof given === 'string' || isNumber(given[0]) ? given : given[0]
    return typeof value === 'string' ? { text: value } : { ids: value as number[] }
  })

function isNumber(value: unknown): boolean {
  return typeof value === 'number'
}

export const completionRequest = z
  .strictObject({
    model: modelName,
    prompt: prompt.meta({ description: 'A text, or token ids; taken as it is, without a chat template.' }),
    ...samplingFields,
    ...lengthFields,
    ...streamFields,
    echo: optional(z.boolean().meta({ description: 'Begin with the prompt; not together with logprobs.' })),
    logprobs: optional(z.int().min(0).max(20)),
    ...bookkeepingFields,
    ...nodeRequestFields,
    n: unsupported('n', [1]),
    best_of: unsupported('best_of', [1]),
    suffix: unsupported('suffix', ['']),
    logit_bias: unsupported('logit_bias', [{}]),
  })
  .refine(({ echo, logprobs }) => echo !== true || logprobs === undefined, {
    path: ['echo'],
    error: 'echo is not supported together with logprobs.',
  })
  .refine(({ echo, prompt }) => echo !== true || 'text' in prompt, {
    path: ['echo'],
    error: 'echo is supported with a text as prompt, not with token ids.',
  })
  .refine((body) => body.stream_options === undefined || body.stream === true, {
    path: ['stream_options'],
    error: 'stream_options needs stream: true.',
  })

export type CompletionRequestBody = z.output<typeof completionRequest>

export const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())).nullable(),
  text_offset: z.array(z.int()),
})

/** Also a chunk of a stream: there finish_reason is null but in the last one, and usage comes in one of its own. */
export const textCompletion = z.object({
  id: z.string(),
  object: z.literal('text_completion'),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(
    z.object({
      index: z.literal(0),
      text: z.string(),
      logprobs: completionLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usage.nullable().optional(),
  llm_node: nodeFields.optional(),
})

export type TextCompletion = z.output<typeof textCompletion>
export type CompletionLogprobs = z.output<typeof completionLogprobs>
