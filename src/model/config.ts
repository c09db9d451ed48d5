import { LlmNodeError } from '../base/errors.ts'
import { type ConfigFields, createConfigFields } from './config-fields.ts'
import { type Family, vector } from './families/decoder.ts'
import { llama } from './families/llama.ts'
import { mistral } from './families/mistral.ts'
import { phi3 } from './families/phi3.ts'
import { qwen2 } from './families/qwen2.ts'
import { qwen3 } from './families/qwen3.ts'
import type { ModelSpec } from './spec.ts'

const families: readonly Family[] = [qwen3, qwen2, llama, mistral, phi3]

/**
 * config.json (parsed) and, where the repository has it, generation_config.json → everything the engine needs to know.
 * Refuses with MODEL_UNSUPPORTED, naming the field, what it cannot compute exactly as the reference does.
 */
export function parseModelConfig(configJson: unknown, generationConfig?: unknown): ModelSpec {
  const config = createConfigFields(configJson)
  const family = findFamily(config)
  refuseForeignFeatures(config)
  const { sizes, layer, rmsNormEps, rope, qkNorm } = family.parse(config)
  const { vocabSize, hiddenSize } = sizes
  return {
    family: family.modelType,
    ...sizes,
    rmsNormEps,
    rope,
    qkNorm,
    tiedEmbeddings: config.flag('tie_word_embeddings', false),
    endTokens: parseEndTokens(config, generationConfig, vocabSize),
    layers: Array.from({ length: sizes.nLayers }, (_, index) => layer(index)),
    embedding: { name: 'model.embed_tokens.weight', shape: [vocabSize, hiddenSize] },
    finalNorm: vector('final_norm', 'model.norm.weight', hiddenSize),
    head: { name: 'lm_head.weight', shape: [vocabSize, hiddenSize] },
  }
}

function findFamily(config: ConfigFields): Family {
  const listed = config.raw('architectures') ?? []
  if (!Array.isArray(listed)) throw config.refuse('architectures', 'is not a list')
  const modelType = config.raw('model_type')
  const family = families.find((one) =>
    modelType === undefined ? listed.includes(one.architecture) : one.modelType === modelType,
  )
  if (!family)
    throw config.refuse('model_type', `is ${JSON.stringify(modelType ?? null)}, a family llm-node does not know`)
  if (listed.length > 0 && !listed.includes(family.architecture)) {
    throw config.refuse('architectures', `is ${JSON.stringify(listed)}, not a ${family.architecture}`)
  }
  return family
}

/** Fields that change the computation or the storage in ways no supported family has. */
function refuseForeignFeatures(config: ConfigFields): void {
  for (const field of ['quantization_config', 'text_config', 'num_experts', 'num_local_experts']) {
    if ((config.raw(field) ?? null) !== null) throw config.refuse(field, 'is not supported')
  }
}

/** generation_config.json wins over config.json, as in transformers. Ids outside the vocabulary are refused. */
function parseEndTokens(config: ConfigFields, generationConfig: unknown, vocabSize: number): number[] {
  const generation = generationConfig === undefined ? null : createConfigFields(generationConfig)
  const value = generation?.raw('eos_token_id') ?? config.raw('eos_token_id') ?? []
  const ids: unknown[] = Array.isArray(value) ? value : [value]
  const valid = ids.every(
    (id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabSize,
  )
  if (!valid || ids.length > 256) {
    throw new LlmNodeError('MODEL_UNSUPPORTED', 'eos_token_id is not a list of token ids.', {
      meta: { field: 'eos_token_id' },
    })
  }
  return ids
}
