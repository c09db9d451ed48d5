import type { ModelCard } from '../inference.ts'
import { resolveModel } from './generation.ts'
import type { ModelObject } from './model-schema.ts'

/** One entry of GET /v1/models. */
export function modelObjectOf(card: ModelCard, id: string = card.name): ModelObject {
  return {
    id,
    object: 'model',
    created: card.created,
    owned_by: 'llm-node',
    llm_node: {
      model_id: card.modelId,
      recipe: card.recipe,
      layers: card.nLayers,
      context: card.maxContext,
      local: card.local,
      complete: card.complete,
    },
  }
}

/** GET /v1/models/{id}, suffixes included. Throws MODEL_NOT_FOUND. */
export function findModelObject(cards: readonly ModelCard[], id: string): ModelObject {
  return modelObjectOf(resolveModel(cards, id).card, id)
}
