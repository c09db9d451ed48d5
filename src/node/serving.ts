import { concatBytes, fromHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Serving } from '../coverage/advert.ts'
import type { ServingState } from '../coverage/map.ts'
import type { AskDeps } from '../pipeline/ask.ts'
import type { LoadedModel } from './load-model.ts'
import type { NodeParts } from './parts.ts'

/** What this node tells the swarm about its layers. */
export function servingOf({ models }: NodeParts, stateOf: (model: LoadedModel) => ServingState): Serving[] {
  return models.flatMap((model): Serving[] => {
    if (model.layers === undefined) return []
    const { runner, cost } = model.layers
    const digests: Uint8Array[] = []
    for (let layer = runner.span.start; layer < runner.span.end; layer++) {
      const held = model.holding.layers.get(layer)
      if (held === undefined) throw new LlmNodeError('INTERNAL', `Layer ${layer} is served and not held.`)
      digests.push(fromHex(held.digest))
    }
    return [
      {
        modelId: model.holding.modelId,
        span: runner.span,
        recipe: runner.recipe,
        numericsClass: model.numericsClass,
        state: stateOf(model),
        decodeMs: cost.decodeMs,
        prefillMs: cost.prefillMs,
        freeKvTokens: runner.freeKvTokens,
        layerDigests: concatBytes(...digests),
      },
    ]
  })
}

/** How this node's entry sees the swarm: everybody but itself. */
export function entryDeps(parts: NodeParts): AskDeps {
  const { swarm, onion, identity, exclusions, idle, chats, privacy, transcripts, audits, experience, guest } = parts
  return {
    holders: (modelId, recipe) =>
      swarm.holders(modelId, recipe).filter(({ address }) => address !== identity.address && !audits.isLiar(address)),
    contact: (address, options) => swarm.contact(address, options),
    openRing: (options, run) => onion.openRing(options, run),
    // A guest is gone before anybody asks again.
    ...(guest ? {} : { prepareRing: (options) => onion.prepareRing(options), idle, chats }),
    nextChange: (signal) => swarm.nextChange(signal),
    exclusions,
    privacy,
    transcripts,
    audits,
    experience,
  }
}
