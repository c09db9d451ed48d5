import { z } from 'zod'
import { apiLimits } from '../../base/limits.ts'
import { bookkeepingFields, ids, modelName, nodeRequestFields, optional, unsupported } from './fields.ts'

const text = z.string().min(1)

const input = z
  .union([text, ids, z.array(text).min(1), z.array(ids).min(1)])
  .refine(
    (given) => typeof given === 'string' || typeof given[0] === 'number' || given.length <= apiLimits.embeddings,
    {
      error: `At most ${apiLimits.embeddings} texts in one request.`,
    },
  )
  .transform((given): readonly ({ text: string } | { ids: number[] })[] => {
    if (typeof given === 'string') return [{ text: given }]
    const list = typeof given[0] === 'number' ? [given as number[]] : (given as (string | number[])[])
    return list.map((item) => (typeof item === 'string' ? { text: item } : { ids: item }))
  })

export const embeddingRequest = z.strictObject({
  model: modelName,
  input: input.meta({ description: 'A text, a list of texts, token ids, or a list of them.' }),
  encoding_format: optional(z.enum(['float', 'base64'])),
  ...bookkeepingFields,
  ...nodeRequestFields,
  dimensions: unsupported('dimensions'),
})

export const embeddingList = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z
        .union([z.array(z.number()), z.string()])
        .meta({ description: 'Numbers, or with base64 the bytes of little-endian f32.' }),
    }),
  ),
  model: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
})

export type EmbeddingList = z.output<typeof embeddingList>
