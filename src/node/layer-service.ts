import { setTimeout as delay } from 'node:timers/promises'
import type { ModelEntry } from '../base/config.ts'
import type { Logger } from '../base/logger.ts'
import type { ServingState } from '../coverage/map.ts'
import type { Home } from './home.ts'
import { type LoadedModel, loadModel } from './load-model.ts'
import type { NodeParts } from './parts.ts'
import { mayForward } from './privacy.ts'
import { servingOf } from './serving.ts'

/** The layers that this node computes for others: in memory, offered to hops, told to the swarm. */
export interface LayerService {
  /** Loads every model of the configuration. Throws what loading throws. */
  load(): Promise<void>
  /** Says to the swarm what is served now, and how this node is reached. */
  publish(): Promise<void>
  /** Why it serves nobody for now; null: it serves. */
  readonly paused: string | null
  /** No new sessions, and the swarm is told; running ones go on. null: serve again. */
  pause(reason: string | null): Promise<void>
  /**
   * Puts what `entry` says now in the place of what is held of that model. Sessions and answers that use the old layers
   * finish first, for at most two minutes; then their entries take another route. Throws what loading throws.
   */
  exchange(entry: ModelEntry, options: { signal: AbortSignal }): Promise<void>
}

const DRAIN_MS = 120_000
const DRAIN_LOOK_MS = 200

export function createLayerService(parts: NodeParts, home: Home, deps: { logger: Logger }): LayerService {
  const { config, models, hops, swarm, guest } = parts
  const leaving = new Set<LoadedModel>()
  let paused: string | null = null

  const offer = ({ name, notes, holding, numericsClass, layers }: LoadedModel) => {
    for (const note of notes) deps.logger.warn({ model: name }, note)
    if (layers === undefined || guest) return
    hops.serve({ modelId: holding.modelId, numericsClass, runner: layers.runner })
  }
  const stateOf = (model: LoadedModel): ServingState => (paused !== null || leaving.has(model) ? 'draining' : 'online')
  const publish = async () => {
    if (guest) return
    const reachability = parts.peer.reachability().word
    await swarm.publish(servingOf(parts, stateOf), {
      relay: config.network.relay && mayForward(reachability),
      reachability,
    })
  }
  const isUsed = ({ name, holding }: LoadedModel) =>
    hops.sessions.some(({ modelId }) => modelId === holding.modelIdHex) ||
    parts.generations.list().some(({ model, state }) => model === name && (state === 'starting' || state === 'running'))

  return {
    publish,
    get paused() {
      return paused
    },
    async load() {
      for (const entry of config.models) {
        if (guest && !entry.ends) continue
        const model = await loadModel(entry, home.modelsFolder, config)
        models.push(model)
        offer(model)
      }
    },
    async pause(reason) {
      if (reason === paused) return
      const changes = (reason === null) !== (paused === null)
      paused = reason
      hops.accept(reason === null)
      if (changes) await publish()
    },
    async exchange(entry, { signal }) {
      const old = models.find(
        ({ name, holding }) => name === entry.name && holding.recipe.startsWith(`${entry.recipe}/`),
      )
      if (old !== undefined) {
        leaving.add(old)
        hops.withdraw(old.holding.modelId)
        await publish()
        const deadlineMs = performance.now() + DRAIN_MS
        while (isUsed(old) && performance.now() < deadlineMs) await delay(DRAIN_LOOK_MS, undefined, { signal })
        models.splice(models.indexOf(old), 1)
        leaving.delete(old)
        // Both at once may not fit into memory.
        await old.close()
      }
      const model = await loadModel(entry, home.modelsFolder, config)
      models.push(model)
      offer(model)
      await publish()
    },
  }
}
