import { z } from 'zod'
import { apiLimits, pipelineLimits } from '../../base/limits.ts'

/** Fields of OpenAI requests, shared by its endpoints. `null` counts as absent everywhere, as it does there. */

export function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value): z.output<T> | undefined => value ?? undefined)
}

/** A field that would change the answer and is not supported: only the values that ask for nothing are taken. */
export function unsupported(name: string, neutral: readonly unknown[] = []) {
  const taken = neutral.map((value) => JSON.stringify(value))
  const text =
    taken.length === 0 ? `${name} is not supported.` : `${name} is not supported; only ${taken.join(', ')} is.`
  return z
    .unknown()
    .optional()
    .refine((value) => value === undefined || value === null || taken.includes(JSON.stringify(value)), { error: text })
    .meta({ description: `Not supported${taken.length === 0 ? '' : `; taken: ${taken.join(', ')}`}.` })
}

/** A field that changes nothing about the answer: taken and not used. */
const unused = z.unknown().optional().meta({ description: 'Taken, without effect.' })

export const modelName = z.string().min(1).max(256).meta({
  description:
    'A name of GET /v1/models; with @local or @swarm it says where to run, with @ADDRESS.llm which node generates.',
})

const tokenCount = z.int().min(1).max(16_777_216)

const stop = z
  .union([
    z.string().min(1).max(pipelineLimits.stopCharacters),
    z.array(z.string().min(1).max(pipelineLimits.stopCharacters)).max(pipelineLimits.stopStrings),
  ])
  .meta({ description: 'The answer ends before the first of these.' })

/** How the answer is drawn. What is absent comes from the model's generation_config.json. */
export const samplingFields = {
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().min(0).max(1)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  seed: optional(z.int().meta({ description: 'The same request with the same seed has the same answer.' })),
  stop: optional(stop),
  top_k: optional(z.int().min(-1).meta({ description: 'Beyond OpenAI. 0 or -1: off.' })),
  min_p: optional(z.number().min(0).max(1).meta({ description: 'Beyond OpenAI. 0: off.' })),
  repetition_penalty: optional(z.number().gt(0).max(100).meta({ description: 'Beyond OpenAI. 1: off.' })),
}

export const lengthFields = {
  max_tokens: optional(tokenCount),
  ignore_eos: optional(
    z.boolean().meta({ description: "Beyond OpenAI. Go on past the model's end tokens: for measuring." }),
  ),
}

export const maxCompletionTokens = optional(tokenCount.meta({ description: 'The newer name of max_tokens.' }))

export const streamFields = {
  stream: optional(z.boolean()),
  stream_options: optional(
    z.strictObject({ include_usage: optional(z.boolean()), include_obfuscation: unused }).meta({
      description: 'Only with stream: true.',
    }),
  ),
}

const ms = z.int().min(1).max(86_400_000)

const nodeWishes = z.strictObject({
  profile: optional(
    z.enum(['auto', 'direct', 'guarded', 'trusted', 'local-only']).meta({
      description: "Who may see what; absent, the node's own setting.",
    }),
  ),
  resume: optional(
    z.string().max(64).meta({
      description:
        'The id of an answer of the same key that was interrupted: it goes on, and nothing else here counts.',
    }),
  ),
  persist: optional(z.boolean().meta({ description: 'false: nothing of the answer is kept for after a restart.' })),
  exact: optional(
    z
      .boolean()
      .meta({ description: 'false: rather go on in another numerics class, marked, than wait for the first.' }),
  ),
  hedge: optional(z.boolean().meta({ description: 'A second circuit races the first one when that is slow.' })),
  first_token_ms: optional(ms.meta({ description: 'Then another way is tried. Default: by measurement.' })),
  token_ms: optional(ms.meta({ description: 'The same for every further token.' })),
  total_ms: optional(ms.meta({ description: 'Then the answer ends with an error.' })),
  wait_ms: optional(
    z.int().min(0).max(86_400_000).meta({ description: 'How long the answer may wait for missing layers.' }),
  ),
})

export type NodeWishes = z.output<typeof nodeWishes>

/** The one place for wishes that OpenAI does not know. */
export const nodeRequestFields = { llm_node: optional(nodeWishes) }

/** What OpenAI's clients send for its own bookkeeping. */
export const bookkeepingFields = {
  user: unused,
  metadata: unused,
  store: unused,
  service_tier: unused,
  safety_identifier: unused,
  prompt_cache_key: unused,
  prompt_cache_retention: unused,
}

export const ids = z.array(z.int().min(0)).min(1).max(apiLimits.promptIds)
