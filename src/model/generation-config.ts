/** How a model wants its answers drawn: generation_config.json. Fields that the file leaves open are absent. */
export interface SamplingDefaults {
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
}

export interface GenerationDefaults {
  /** Any of them ends an answer: eos_token_id of both files together, ascending. */
  readonly endTokens: readonly number[]
  readonly sampling: SamplingDefaults
}

/** A number of the file, if it is in the range that the sampler takes; others are as if absent. */
function numberIn(value: unknown, min: number, max: number): number | undefined {
  return typeof value === 'number' && value >= min && value <= max ? value : undefined
}

function idsOf(value: unknown): number[] {
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.filter((id): id is number => typeof id === 'number' && Number.isSafeInteger(id) && id >= 0)
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

/**
 * Reads generation_config.json (absent in old repositories) and config.json. Both are needed for the end tokens: Llama 3
 * names <|eot_id|> only in the first, fine-tuned models often their own only in the second. A value that makes no
 * sense is left out rather than refused: it is a wish, and the request can always say otherwise.
 */
export function parseGenerationConfig(files: { generationConfig?: unknown; config: unknown }): GenerationDefaults {
  const generation = fieldsOf(files.generationConfig)
  const ids = [...idsOf(generation.eos_token_id), ...idsOf(fieldsOf(files.config).eos_token_id)]
  const greedy = generation.do_sample === false
  const topK = numberIn(generation.top_k, 0, Number.MAX_SAFE_INTEGER)
  const wishes = {
    temperature: greedy ? 0 : numberIn(generation.temperature, 0, 100),
    topK: Number.isInteger(topK) ? topK : undefined,
    topP: numberIn(generation.top_p, 0, 1),
    minP: numberIn(generation.min_p, 0, 1),
    repetitionPenalty: numberIn(generation.repetition_penalty, 0.01, 100),
  }
  const sampling: SamplingDefaults = Object.fromEntries(
    Object.entries(wishes).filter(([, value]) => value !== undefined),
  )
  return { endTokens: [...new Set(ids)].sort((a, b) => a - b), sampling }
}
