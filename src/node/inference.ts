import type { Inference, ModelCard, Where } from '../api/inference.ts'
import { spanLength } from '../base/span.ts'
import { ask } from '../pipeline/ask.ts'
import { embedText } from '../pipeline/embed.ts'
import { requireCoverage } from '../pipeline/entry.ts'
import { answerAgain, chooseModel, isCovered } from './askables.ts'
import { newAnswerId } from './generations.ts'
import { answerVia } from './inference-via.ts'
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
      const { id = newAnswerId(), owner, run: wishes = {} } = call
      const stopper = new AbortController()
      const run = { ...wishes, signal: AbortSignal.any([signal, stopper.signal]) }
      const about = { model: call.model, id: call.resume ?? id, stop: () => stopper.abort() }
      if (call.resume !== undefined) {
        const again = answerAgain(
          askables(),
          { id: call.resume, owner: owner ?? null, ...run },
          parts.transcripts,
          deps,
        )
        return parts.generations.follow(about, again)
      }
      const { via } = call
      if (via !== undefined) return parts.generations.follow(about, answerVia(parts, { ...call, via }, run.signal))
      const { prompt, sampling, stop, maxTokens } = call
      const profile = call.profile ?? parts.config.privacy.profile
      const where = { ...whereOf(call.where), profile }
      const model = chooseModel(askables(), call.model, isCovered(deps, where))
      const how = { ignoreEnd: call.ignoreEnd === true, logitsDigest: false, ...where }
      return parts.generations.follow(
        about,
        ask(model, { id, prompt, sampling, stop, owner, maxTokens, ...how, ...run }, deps),
      )
    },
    embed: ({ model, where, profile = parts.config.privacy.profile, prompt }, signal) =>
      embedText(
        chooseModel(askables(), model, isCovered(deps, { ...whereOf(where), profile })),
        { prompt, ...whereOf(where), profile, signal },
        deps,
      ),
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
