import { z } from 'zod'

export const modelObject = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.string(),
  llm_node: z.object({
    model_id: z.string(),
    recipe: z.string(),
    layers: z.int(),
    context: z.int().meta({ description: 'Tokens of prompt and answer together.' }),
    local: z.boolean().meta({ description: 'All layers are held by this node.' }),
    complete: z.boolean().meta({ description: 'Every layer is held by somebody.' }),
  }),
})

export const modelList = z.object({ object: z.literal('list'), data: z.array(modelObject) })

export type ModelObject = z.output<typeof modelObject>

const interrupted = z.object({
  text: z.string().meta({ description: 'So far, as it was generated: with the think block, if there is one.' }),
  tokens: z.array(z.int()).meta({ description: 'Their ids.' }),
  resume: z.string().nullable().meta({
    description: 'Sent as llm_node.resume in the next request, the answer goes on; null: it was not kept.',
  }),
})

export const openAiError = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
    llm_node: z
      .object({
        code: z.string(),
        hint: z.string().nullable(),
        interrupted: interrupted.optional().meta({ description: 'Of an answer that had begun: what came of it.' }),
      })
      .meta({ description: "The node's own code, and what to do next." }),
  }),
})

export type InterruptedFields = z.output<typeof interrupted>
export type OpenAiErrorBody = z.output<typeof openAiError>
