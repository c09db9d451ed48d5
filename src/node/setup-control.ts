import type { EventLog } from '../api/event-log.ts'
import type { MachineBody } from '../api/home-bodies.ts'
import type { FetchRequest, NetworkRequest, SetupBody, SetupControl } from '../api/setup-schema.ts'
import type { Config } from '../base/config.ts'
import { isNetworkName, parseConfig } from '../base/config.ts'
import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { apiLimits } from '../base/limits.ts'
import { createLogger } from '../base/logger.ts'
import { formatSpan, parseSpan } from '../base/span.ts'
import { detectMachine, type Machine } from './detect.ts'
import { assertProvider } from './engine-choice.ts'
import { type Home, loadConfig, prepareHome } from './home.ts'
import { catalogueBody, costBody, planBody } from './home-control.ts'
import { joinNetwork } from './joining.ts'
import { bundledModel } from './model-source.ts'
import { clearPendingSetup, type PendingSetup, readPendingSetup, writePendingSetup } from './pending-setup.ts'
import { makePlan, type Plan, type PlanDeps, planDeps } from './plan.ts'
import { selfTest } from './self-test.ts'
import { setupModel } from './setup.ts'
import { createSpeedometer } from './speedometer.ts'
import { glance, settle } from './swarm-glance.ts'
import { openSwarmLook, type SwarmLook } from './swarm-look.ts'

export interface SetupWebOptions {
  readonly home: Home
  /** With the flags of the command laid over it. */
  readonly config: Config
  readonly signal: AbortSignal
}

export interface SetupWebDeps {
  readonly events: Pick<EventLog, 'publish'>
  /** Runs the node of the home; resolves when it is ready. */
  readonly start: () => Promise<NonNullable<SetupBody['node']>>
}

/** The set-up of a home behind the pages, by the same functions as the command. */
export async function createSetupControl(options: SetupWebOptions, deps: SetupWebDeps): Promise<SetupControl> {
  const { home, config } = options
  await prepareHome(home)
  const [machine, catalogue, pending] = await Promise.all([
    detectMachine({ folder: home.modelsFolder }),
    catalogueBody(),
    readPendingSetup(home),
  ])
  const wizard = new Wizard(options, deps, {
    phase: 'choosing',
    machine: machineBody(machine),
    network: { name: config.network.name, private: config.network.private, looking: false, peers: [] },
    bundled: bundledModel(),
    catalogue,
    held: config.models.map(({ name, layers }) => `${name} ${layers ?? 'ends'}`),
    pending: pending === undefined ? null : pendingBody(pending),
    shareMiB: config.share.memoryMiB,
    plan: null,
    layers: null,
    progress: null,
    tests: [],
    error: null,
    node: null,
  })
  options.signal.addEventListener('abort', () => wizard.close(), { once: true })
  return wizard
}

class Wizard implements SetupControl {
  readonly #options: SetupWebOptions
  readonly #deps: SetupWebDeps
  #config: Config
  #state: SetupBody
  #look: SwarmLook | undefined
  #plan: Plan | undefined
  #model = ''
  #fetching: AbortController | undefined
  #toldMs = 0

  constructor(options: SetupWebOptions, deps: SetupWebDeps, state: SetupBody) {
    this.#options = options
    this.#deps = deps
    this.#config = options.config
    this.#state = state
  }

  state(): SetupBody {
    return this.#state
  }

  close(): void {
    this.#fetching?.abort()
    void this.#look?.close()
  }

  async network(request: NetworkRequest): Promise<void> {
    this.#requireIdle()
    const { home } = this.#options
    if ('invite' in request) {
      const { bootstrap, private: isPrivate, network: name } = await joinNetwork(home, request.invite)
      this.#config = {
        ...this.#config,
        network: { ...this.#config.network, name, private: isPrivate, bootstrap: [...bootstrap] },
      }
    } else if (!isNetworkName(request.name)) {
      throw new LlmNodeError('BAD_INPUT', `"${request.name}" is no name for a network.`, {
        hint: 'Use 1 to 63 of a-z, 0-9, dot and dash.',
      })
    } else if (request.name !== this.#config.network.name) {
      this.#config = { ...this.#config, network: { ...this.#config.network, name: request.name, private: false } }
    }
    await this.#look?.close()
    const { name, private: isPrivate } = this.#config.network
    const network = { name, private: isPrivate, looking: true, peers: [] }
    this.#change({ network, plan: null })
    const logger = createLogger({ level: 'silent' })
    const tell = (peers: SetupBody['network']['peers']) => this.#change({ network: { ...network, peers } })
    this.#look = await openSwarmLook(home, this.#config, { logger, onPeers: tell })
  }

  share({ memoryMiB }: Parameters<SetupControl['share']>[0]): void {
    this.#requireIdle()
    this.#config = parseConfig({ ...this.#config, share: { ...this.#config.share, memoryMiB } })
    this.#change({ shareMiB: memoryMiB, plan: null })
  }

  async plan({ model, recipe }: Parameters<SetupControl['plan']>[0]): Promise<void> {
    this.#requireIdle()
    this.#change({ phase: 'planning', plan: null, error: null })
    const { home, signal } = this.#options
    try {
      const wish = { model, recipe, ends: true, look: true, measure: true, signal }
      this.#plan = await makePlan(home, this.#config, wish, this.#planDeps())
      this.#model = model
      this.#change({ phase: 'choosing', plan: planBody(this.#plan) })
    } catch (error) {
      this.#change({ phase: 'choosing' })
      throw error
    }
  }

  cost(layers: string) {
    const plan = this.#requirePlan()
    const span = parseSpan(layers)
    if (span.end > plan.nLayers) throw new LlmNodeError('BAD_INPUT', `The last layer is ${plan.nLayers - 1}.`)
    return costBody(plan.cost(span))
  }

  fetch(request: FetchRequest): void {
    this.#requireIdle()
    const plan = this.#requirePlan()
    if (request.layers !== 'none' && request.layers !== 'all') this.cost(request.layers)
    void this.#run(plan, request)
  }

  pause(): void {
    this.#fetching?.abort()
  }

  async #run(plan: Plan, { layers, ends }: FetchRequest): Promise<void> {
    const { home } = this.#options
    const fetching = new AbortController()
    this.#fetching = fetching
    this.#change({ phase: 'fetching', layers, progress: null, tests: [], error: null })
    try {
      await this.#look?.close()
      this.#look = undefined
      const recommended = plan.recommended === null ? null : formatSpan(plan.recommended.span)
      const { recipe } = plan
      const wish = { model: this.#model, layers, ends, recipe, pinned: layers !== recommended }
      await assertProvider(this.#config.engine, recipe)
      await writePendingSetup(home, wish)
      const onProgress = this.#progressTeller()
      const { entry } = await setupModel(home, this.#config, { ...wish, signal: fetching.signal, onProgress })
      await clearPendingSetup(home)
      this.#config = await loadConfig(home, { env: {} })
      this.#change({ phase: 'testing' })
      const test = await selfTest(home, this.#config, entry, { signal: fetching.signal })
      this.#change({ phase: 'starting', tests: testsOf(test) })
      const node = await this.#deps.start()
      this.#change({ phase: 'running', node })
    } catch (thrown) {
      const { code, message, hint = null } = toLlmNodeError(thrown)
      if (fetching.signal.aborted) this.#change({ phase: 'choosing' })
      else this.#change({ phase: 'failed', error: { code, message, hint } })
    } finally {
      this.#fetching = undefined
    }
  }

  /** At most four times a second, and the last one. */
  #progressTeller() {
    const speed = createSpeedometer()
    return ({ bytesDone, bytesTotal }: { bytesDone: number; bytesTotal: number }) => {
      const nowMs = performance.now()
      speed.note(bytesDone, nowMs)
      if (nowMs - this.#toldMs < apiLimits.eventDelayMs && bytesDone < bytesTotal) return
      this.#toldMs = nowMs
      const bytesPerSecond = speed.perSecond()
      const secondsLeft = bytesPerSecond === null ? null : (bytesTotal - bytesDone) / bytesPerSecond
      this.#change({ progress: { bytesDone, bytesTotal, bytesPerSecond, secondsLeft } })
    }
  }

  /** The look that goes on already tells more than a new one. */
  #planDeps(): PlanDeps {
    const look = this.#look
    if (look === undefined) return planDeps
    const { peer, swarm } = look
    const hasBootstrap = this.#config.network.bootstrap.length > 0
    return {
      ...planDeps,
      async look(_home, _config, modelId, signal) {
        await settle(swarm, peer, hasBootstrap, signal)
        return glance(swarm, modelId)
      },
    }
  }

  #requireIdle(): void {
    if (['choosing', 'failed'].includes(this.#state.phase)) return
    throw new LlmNodeError('BAD_INPUT', 'Something is under way already.', { hint: 'Wait for it, or pause it.' })
  }

  #requirePlan(): Plan {
    if (this.#plan !== undefined) return this.#plan
    throw new LlmNodeError('BAD_INPUT', 'There is no plan yet.', { hint: 'Choose a model first.' })
  }

  #change(change: Partial<SetupBody>): void {
    this.#state = { ...this.#state, ...change }
    this.#deps.events.publish({ type: 'setup', data: this.#state })
  }
}

function machineBody({ cpu, memory, disk, gpus, battery }: Machine): MachineBody {
  return {
    cpu: { model: cpu.model, cores: cpu.cores, features: [...cpu.features] },
    memory: { ...memory },
    disk: disk === null ? null : { ...disk },
    gpus: gpus.map(({ name }) => name),
    onBattery: battery?.discharging === true,
  }
}

function pendingBody({ model, layers, ends, recipe }: PendingSetup): SetupBody['pending'] {
  return { model, layers, ends, recipe }
}

function testsOf({ numericsClass, layer, cost, notes }: Awaited<ReturnType<typeof selfTest>>): SetupBody['tests'] {
  const engine = `The engine computes here as every node of class ${numericsClass.slice(0, 8)} does.`
  const speed = cost === null ? '' : ` One token takes ${cost.decodeMs.toFixed(2)} ms in it.`
  return [
    { name: 'engine', status: 'ok', finding: engine, fix: null },
    layer === null
      ? { name: 'layers', status: 'skip', finding: 'No layers are held.', fix: null }
      : { name: 'layers', status: 'ok', finding: `Layer ${layer} is what its hash says.${speed}`, fix: null },
    ...notes.map((finding, index) => ({ name: `note ${index + 1}`, status: 'warn' as const, finding, fix: null })),
  ]
}
