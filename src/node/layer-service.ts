import { setTimeout as delay } from 'node:timers/promises'
import type { ModelEntry } from '../base/config.ts'
import { isLlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import type { ServingState } from '../coverage/map.ts'
import type { Home } from './home.ts'
import { isInUse } from './in-use.ts'
import { type LoadedModel, loadModel } from './load-model.ts'
import type { NodeParts } from './parts.ts'
import { servingOf } from './serving.ts'

export interface AwayModel {
  readonly name: string
  readonly reason: string
}

/** The layers that this node computes for others: in memory, offered to hops, told to the swarm. */
export interface LayerService {
  /**
   * Loads the models of the configuration: pinned ones first, then the newest. Those for which there is no memory then
   * stay on the disk, as long as one is loaded. Throws what loading throws.
   */
  load(): Promise<void>
  /** Models of the configuration that are not in memory, and why. */
  readonly away: readonly AwayModel[]
  /** Sessions of others or answers of this node's own run on it. */
  isUsed(model: LoadedModel): boolean
  /** Frees a model's memory; its files stay. Nobody may be using it. */
  putAway(model: LoadedModel, reason: string): Promise<void>
  /** Says to the swarm what is served now, and how this node is reached. */
  publish(): Promise<void>
  /** Why it serves nobody for now; null: it serves. */
  readonly paused: string | null
  /** No new sessions, and the swarm is told; running ones go on. null: serve again. */
  pause(reason: string | null): Promise<void>
  /** The same before a stop, for circuits that only pass here, too. For good. */
  leave(): Promise<void>
  /**
   * Puts what `entry` says now in the place of what is held of that model. Sessions and answers that use the old layers
   * finish first, for at most two minutes; then their entries take another route. Throws what loading throws.
   */
  exchange(entry: ModelEntry, options: { signal: AbortSignal }): Promise<void>
}

const DRAIN_MS = 120_000
const DRAIN_LOOK_MS = 200
const QUIET_MS = 5_000

export function createLayerService(parts: NodeParts, home: Home, deps: { logger: Logger }): LayerService {
  return new Service(parts, home, deps.logger)
}

class Service implements LayerService {
  readonly #parts: NodeParts
  readonly #home: Home
  readonly #logger: Logger
  readonly #leaving = new Set<LoadedModel>()
  readonly #away: AwayModel[] = []
  #paused: string | null = null
  #relays = true

  constructor(parts: NodeParts, home: Home, logger: Logger) {
    this.#parts = parts
    this.#home = home
    this.#logger = logger
  }

  get away(): readonly AwayModel[] {
    return this.#away
  }

  get paused(): string | null {
    return this.#paused
  }

  async load(): Promise<void> {
    const { config, models, guest } = this.#parts
    for (const entry of byImportance(config.models)) {
      if (guest && !entry.ends) continue
      try {
        await this.#add(entry)
      } catch (error) {
        if (models.length === 0 || !isLlmNodeError(error, 'OUT_OF_MEMORY')) throw error
        this.#away.push({ name: entry.name, reason: error.message })
      }
    }
  }

  async publish(): Promise<void> {
    const { config, swarm, peer, guest } = this.#parts
    if (guest) return
    const reachability = peer.reachability().word
    const relay = this.#relays && config.network.relay && reachability !== 'relayed'
    const stateOf = (model: LoadedModel): ServingState =>
      this.#paused !== null || this.#leaving.has(model) ? 'draining' : 'online'
    await swarm.publish(servingOf(this.#parts, stateOf), { relay, reachability })
  }

  async pause(reason: string | null): Promise<void> {
    if (reason === this.#paused) return
    const changes = (reason === null) !== (this.#paused === null)
    this.#paused = reason
    this.#parts.hops.accept(reason === null)
    if (changes) await this.publish()
  }

  async leave(): Promise<void> {
    this.#relays = false
    this.#paused = 'it is stopping'
    this.#parts.hops.accept(false)
    await this.publish()
  }

  isUsed({ name, holding }: LoadedModel): boolean {
    // An answer that waits for somebody else's layers goes on here once they have come.
    const isWaitedFor = this.#parts.generations
      .list()
      .some(({ model, state }) => model === name && state === 'suspended')
    return isWaitedFor || isInUse(this.#parts, QUIET_MS, { name, modelIdHex: holding.modelIdHex })
  }

  async putAway(model: LoadedModel, reason: string): Promise<void> {
    await this.#withdraw(model)
    await this.#remove(model)
    this.#away.push({ name: model.name, reason })
    await this.publish()
  }

  async exchange(entry: ModelEntry, { signal }: { signal: AbortSignal }): Promise<void> {
    const old = this.#parts.models.find((model) => model.entry.folder === entry.folder)
    if (old !== undefined) {
      await this.#withdraw(old)
      const deadlineMs = performance.now() + DRAIN_MS
      while (this.isUsed(old) && performance.now() < deadlineMs) await delay(DRAIN_LOOK_MS, undefined, { signal })
      // Both at once may not fit into memory.
      await this.#remove(old)
    }
    await this.#add(entry)
    await this.publish()
  }

  async #add(entry: ModelEntry): Promise<void> {
    const { config, models, hops, guest } = this.#parts
    const model = await loadModel(entry, this.#home.modelsFolder, config)
    models.push(model)
    for (const note of model.notes) this.#logger.warn({ model: model.name }, note)
    if (model.layers === undefined || guest) return
    const { holding, numericsClass, layers } = model
    hops.serve({ modelId: holding.modelId, numericsClass, runner: layers.runner })
  }

  async #withdraw(model: LoadedModel): Promise<void> {
    this.#leaving.add(model)
    this.#parts.hops.withdraw(model.holding.modelId)
    await this.publish()
  }

  async #remove(model: LoadedModel): Promise<void> {
    const { models } = this.#parts
    models.splice(models.indexOf(model), 1)
    this.#leaving.delete(model)
    await model.close()
  }
}

/** What the owner chose by hand, then what was set up last. */
function byImportance(entries: readonly ModelEntry[]): ModelEntry[] {
  return [...entries].reverse().sort((a, b) => Number(b.pinned) - Number(a.pinned))
}
