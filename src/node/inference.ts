import type { Inference, ModelCard, Where } from '../api/inference.ts'
import { spanLength } from '../base/span.ts'
import { ask } from '../pipeline/ask.ts'
import { embedText } from '../pipeline/embed.ts'
import { requireCoverage } from '../pipeline/entry.ts'
import { chooseModel } from './askables.ts'
import type { LoadedModel } from './load-model.ts'
import type { NodeParts } from './parts.ts'
import { entryDeps } from './serving.ts'

/** What the OpenAI part of the API gets from a node. */
export function createInference(parts: NodeParts): Inference {
  const deps = entryDeps(parts)
  const askables = () => parts.models.flatMap((model) => model.askable ?? [])
  return {
    models: () => parts.models.flatMap((model) => (model.askable === undefined ? [] : [cardOf(model, parts)])),
    generate(call, signal) {
      const model = chooseModel(askables(), call.model)
      const { prompt, sampling, stop, owner } = call
      const run = {
        ignoreEnd: call.ignoreEnd === true,
        logitsDigest: false,
        ...whereOf(call.where),
        profile: call.profile ?? parts.config.privacy.profile,
        signal,
      }
      return parts.generations.follow(
        model.name,
        ask(model, { prompt, sampling, stop, owner, maxTokens: call.maxTokens, ...run }, deps),
        call.id,
      )
    },
    embed: ({ model, where, profile = parts.config.privacy.profile, prompt }, signal) =>
      embedText(chooseModel(askables(), model), { prompt, ...whereOf(where), profile, signal }, deps),
  }
}

function whereOf(where: Where): { solo: boolean; swarm: boolean } {
  return { solo: where === 'local', swarm: where === 'swarm' }
}

function cardOf({ name, holding, spec, askable, layers }: LoadedModel, parts: NodeParts): ModelCard {
  return {
    name,
    created: Math.floor(parts.startedMs / 1000),
    modelId: holding.modelIdHex,
    recipe: holding.recipe,
    nLayers: spec.nLayers,
    maxContext: spec.maxContext,
    numericsClass: askable?.numericsClass ?? '',
    local: layers !== undefined && spanLength(layers.runner.span) === spec.nLayers,
    complete: isComplete(askable, parts),
  }
}

function isComplete(askable: LoadedModel['askable'], parts: NodeParts): boolean {
  if (askable === undefined) return false
  try {
    requireCoverage(askable, entryDeps(parts))
    return true
  } catch {
    return false
  }
}
