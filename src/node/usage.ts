import type { UsageBody } from '../api/types.ts'
import { onionLimits } from '../base/limits.ts'
import { explainUsage, rttFrom } from '../coverage/usage.ts'
import type { NodeParts } from './parts.ts'

/** "Why am I not used?", for each model that this node serves and each peer that it knows. */
export function usageOf({ models, swarm, identity }: NodeParts): UsageBody {
  const askers = swarm.peers().filter(({ self }) => !self)
  return {
    models: models.flatMap((model) => {
      if (model.layers === undefined) return []
      const holders = swarm.holders(model.holding.modelId, model.holding.recipe)
      const peers = explainUsage({
        self: identity.address,
        askers: askers.map(({ address }) => ({
          address,
          rttTo: rttFrom(holders.find((holder) => holder.address === address)),
        })),
        holders,
        nLayers: model.spec.nLayers,
        maxHops: onionLimits.computeHops,
      })
      return [{ name: model.name, peers }]
    }),
  }
}
