import type { Clock } from '../base/clock.ts'
import { onionLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { formatSpan, type Span } from '../base/span.ts'
import { decideMove, type Move, moveDelayMs } from '../coverage/rebalance.ts'
import type { MachineNow } from './detect.ts'
import { fitHere } from './fit-here.ts'
import { type Home, loadConfig } from './home.ts'
import type { LayerService } from './layer-service.ts'
import type { LoadedModel } from './load-model.ts'
import { figuresOfSpec } from './model-figures.ts'
import type { NodeParts } from './parts.ts'
import { createOthersLoad, type PauseReason, pauseReason } from './pause-reasons.ts'
import { setupModel } from './setup.ts'
import { detectShareNow } from './share.ts'
import { assignedOf } from './swarm-glance.ts'

/** Looks after a running node: when it serves, and whether other layers would help the swarm more (swarm.md §4). */
export interface Care {
  start(): void
  /** What the owner asked for; in force at once. */
  pause(asked: boolean): Promise<void>
  /** Looks once; tests call it instead of waiting. */
  look(): Promise<void>
  /** The move that is decided or under way, for people; null: none. */
  readonly moving: { readonly model: string; readonly span: Span; readonly reason: Move['reason'] } | null
  /** Waits for what is under way. Idempotent. */
  stop(): Promise<void>
}

export interface CareDeps {
  readonly service: LayerService
  readonly clock: Clock
  readonly logger: Logger
  detect: typeof detectShareNow
  othersLoad(): number
  /** In [0, 1). */
  random(): number
  fetch: typeof setupModel
}

const LOOK_MS = 15_000
/** Less free memory than this share: models that nobody uses make room. */
const SHORT_MEMORY = 0.1
const IDLE_MS = 600_000

export function realCareDeps(): Pick<CareDeps, 'detect' | 'othersLoad' | 'random' | 'fetch'> {
  return {
    detect: detectShareNow,
    othersLoad: createOthersLoad(),
    random: Math.random,
    fetch: setupModel,
  }
}

interface Planned {
  readonly dueMs: number
}

export function createCare(parts: NodeParts, home: Home, deps: CareDeps): Care {
  return new Caretaker(parts, home, deps)
}

class Caretaker implements Care {
  readonly #parts: NodeParts
  readonly #home: Home
  readonly #deps: CareDeps
  readonly #stopping = new AbortController()
  /** When each model came to the layers it has, monotonic ms. */
  readonly #since = new Map<string, number>()
  readonly #planned = new Map<string, Planned>()
  readonly #usedMs = new Map<string, number>()
  #asked: boolean
  #reason: PauseReason | null = null
  #moving: Care['moving'] = null
  #timer: NodeJS.Timeout | undefined
  #work: Promise<void> = Promise.resolve()

  constructor(parts: NodeParts, home: Home, deps: CareDeps) {
    this.#parts = parts
    this.#home = home
    this.#deps = deps
    this.#asked = parts.config.care.paused
  }

  get moving(): Care['moving'] {
    return this.#moving
  }

  start(): void {
    for (const { entry } of this.#parts.models) this.#since.set(entry.folder, this.#deps.clock.monotonicMs())
    this.#timer = setInterval(() => void this.look(), LOOK_MS)
    this.#timer.unref()
  }

  async pause(asked: boolean): Promise<void> {
    this.#asked = asked
    await this.look()
  }

  /** Whether to serve is decided at once, all else one look after the other: a move takes minutes. */
  look(): Promise<void> {
    const { logger, detect } = this.#deps
    const machine = detect(this.#home, this.#parts.config)
    const failed = (err: unknown) => logger.warn({ err }, 'looking after the node failed')
    const pausing = machine.then((now) => this.#decidePause(now)).catch(failed)
    if (this.#moving !== null || this.#stopping.signal.aborted) return pausing
    this.#work = Promise.all([machine, pausing, this.#work])
      .then(async ([now]) => {
        await this.#makeRoom(now)
        await this.#lookForMoves(now)
      })
      .catch(failed)
    return this.#work
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
    await this.#work
  }

  async #decidePause({ battery }: MachineNow): Promise<void> {
    const { service, logger, othersLoad } = this.#deps
    const { care } = this.#parts.config
    const before = this.#reason
    this.#reason = pauseReason(care, {
      asked: this.#asked,
      now: new Date(this.#deps.clock.nowMs()),
      battery,
      othersLoad: othersLoad(),
      pausedByLoad: before?.kind === 'load',
    })
    if (before?.kind === this.#reason?.kind) return
    logger.info({ reason: this.#reason?.text ?? null }, this.#reason === null ? 'serves others' : 'serves nobody now')
    await service.pause(this.#reason?.text ?? null)
  }

  /** When memory is short, the model that has been idle longest is put away; never a pinned one, never the last. */
  async #makeRoom({ memory }: MachineNow): Promise<void> {
    const { service, clock, logger } = this.#deps
    const { models } = this.#parts
    const nowMs = clock.monotonicMs()
    for (const model of models) if (service.isUsed(model)) this.#usedMs.set(model.entry.folder, nowMs)
    if (memory.freeBytes >= SHORT_MEMORY * memory.totalBytes || models.length < 2) return
    const lastUseMs = ({ entry: { folder } }: LoadedModel) =>
      this.#usedMs.get(folder) ?? this.#since.get(folder) ?? nowMs
    const [idlest] = models
      .filter(({ entry }) => !entry.pinned)
      .filter((model) => nowMs - lastUseMs(model) >= IDLE_MS)
      .sort((a, b) => lastUseMs(a) - lastUseMs(b))
    if (idlest === undefined) return
    const minutes = Math.floor((nowMs - lastUseMs(idlest)) / 60_000)
    const reason = `Memory was short and nobody had used it for ${minutes} minutes.`
    logger.warn({ model: idlest.name, minutes }, 'memory is short: an idle model is put away')
    await service.putAway(idlest, reason)
  }

  async #lookForMoves(machine: MachineNow): Promise<void> {
    const { config, models } = this.#parts
    if (!config.care.move || this.#reason !== null) return
    for (const model of [...models]) {
      if (model.entry.pinned || model.layers === undefined) continue
      const move = this.#decide(model, machine)
      if (move === undefined) this.#planned.delete(model.entry.folder)
      else if (this.#isDue(model.entry.folder)) await this.#make(model, move)
    }
  }

  #decide({ entry, holding, askable }: LoadedModel, machine: MachineNow): Move | undefined {
    const { swarm, identity } = this.#parts
    const peers = assignedOf(swarm.holders(holding.modelId, holding.recipe))
    const { clock } = this.#deps
    return decideMove(peers, {
      self: identity.address,
      nLayers: holding.spec.nLayers,
      maxHops: onionLimits.computeHops,
      fits: fitsHere(holding, machine, askable !== undefined),
      stayedMs: clock.monotonicMs() - (this.#since.get(entry.folder) ?? clock.monotonicMs()),
    })
  }

  /** A move waits a random while first, and is decided anew then: the first mover makes the others stay. */
  #isDue(folder: string): boolean {
    const { clock, random } = this.#deps
    const planned = this.#planned.get(folder)
    if (planned !== undefined) return clock.monotonicMs() >= planned.dueMs
    this.#planned.set(folder, { dueMs: clock.monotonicMs() + moveDelayMs(random()) })
    return false
  }

  async #make({ name, entry }: LoadedModel, { span, reason }: Move): Promise<void> {
    const { service, logger, clock, fetch } = this.#deps
    const { signal } = this.#stopping
    const facts = { model: name, from: entry.layers, to: formatSpan(span), reason }
    this.#moving = { model: name, span, reason }
    logger.info(facts, 'other layers help the swarm more: moving')
    try {
      const config = await loadConfig(this.#home, { env: {} })
      const { source: model, ends, recipe } = entry
      const fetched = await fetch(this.#home, config, { model, layers: formatSpan(span), ends, recipe, signal })
      await service.exchange(fetched.entry, { signal })
      logger.info(facts, 'moved')
    } catch (err) {
      if (!signal.aborted) logger.warn({ err, ...facts }, 'the move failed; tried again later')
    } finally {
      this.#planned.delete(entry.folder)
      // Also after a failure: no attempt every few seconds.
      this.#since.set(entry.folder, clock.monotonicMs())
      this.#moving = null
    }
  }
}

/** Layers that this machine has room for, counting what they take already. */
function fitsHere(
  { spec, recipe, layers }: Pick<LoadedModel['holding'], 'spec' | 'recipe' | 'layers'>,
  machine: MachineNow,
  ends: boolean,
): number {
  const figures = figuresOfSpec(spec, recipe)
  const endsBytes = ends ? figures.ends.packedBytes : 0
  const heldBytes = [...layers.values()].reduce((sum, { bytes }) => sum + bytes, endsBytes)
  return fitHere({ figures, spec, machine, ends, heldBytes }).layers
}
