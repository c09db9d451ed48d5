import { join } from 'node:path'
import { checkAsk } from '../api/check-ask.ts'
import { createEventLog, type EventLog } from '../api/event-log.ts'
import type { Inference } from '../api/inference.ts'
import type { AskEvent, AskRequest, NodeControl } from '../api/types.ts'
import { fromHex } from '../base/bytes.ts'
import { systemClock } from '../base/clock.ts'
import type { Config, ConfigOverrides } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { relayLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import { createSwarmView, type SwarmView } from '../coverage/announce.ts'
import type { AskedProfile } from '../coverage/path.ts'
import { createPeerScores } from '../coverage/peer-scores.ts'
import type { AnswerService } from '../onion/ports.ts'
import { relayingLimits } from '../onion/relaying-limits.ts'
import { createOnionService } from '../onion/service.ts'
import { createPeerNode } from '../p2p/peer-node.ts'
import type { AskableModel } from '../pipeline/ask.ts'
import { createChatProfiles } from '../pipeline/chat-profiles.ts'
import { requireCoverage } from '../pipeline/entry.ts'
import { createExclusions } from '../pipeline/exclusions.ts'
import { createExperience } from '../pipeline/experience.ts'
import { createHopServer } from '../pipeline/hop-server.ts'
import { createIdleChains } from '../pipeline/idle-chains.ts'
import { createAnswering, generateForOthers } from './answering.ts'
import { chooseModel, isCovered } from './askables.ts'
import { openAuditBook } from './audits.ts'
import { type Care, type CareDeps, createCare, realCareDeps } from './care.ts'
import { createContactPeers } from './contact-peers.ts'
import { createControl } from './control.ts'
import { type FaultyParts, injectFaults } from './faults.ts'
import { createGenerations } from './generations.ts'
import { type Home, loadConfig, prepareHome } from './home.ts'
import { openIdentity } from './identity.ts'
import { createInference } from './inference.ts'
import { createLayerService } from './layer-service.ts'
import { leaveInOrder } from './leave.ts'
import { peerOptions } from './listen.ts'
import { type ResolvedNetwork, resolveNetwork } from './networks.ts'
import { createSignal, watchNode } from './node-events.ts'
import { listeningOf, type NodeParts } from './parts.ts'
import { createPrivacy, whoMayBeMet } from './privacy.ts'
import { entryDeps } from './serving.ts'
import { createTranscripts } from './transcripts.ts'
import { nodeVersion } from './version.ts'

export interface NodeOptions {
  readonly home: Home
  readonly env: Readonly<Record<string, string | undefined>>
  readonly overrides?: ConfigOverrides
  /** Only asks: loads no layers for others, says nothing about itself, keeps nothing on disk but its guards. */
  readonly guest?: boolean
  /** Tests: faults on purpose, as this file says. */
  readonly faultsFile?: string | undefined
  /** A guest that only wants one way through the swarm connects to nobody else; default true. */
  readonly mesh?: boolean
}

/** A node in this process: identity, network, circuits, layers. */
export interface LlmNode {
  readonly address: string
  readonly network: ResolvedNetwork
  readonly config: Config
  readonly control: NodeControl
  readonly inference: Inference
  readonly events: EventLog
  /** Looks after when it serves and what it holds. */
  readonly care: Care
  /** Resolves when it listens, has loaded its models and said what it serves. */
  start(): Promise<void>
  /** Where others can dial it: multiaddrs with /p2p/PEERID. */
  listening(): string[]
  ask(request: AskRequest, signal: AbortSignal): AsyncIterable<AskEvent>
  /** Resolves when every layer of the model is served by someone; gives up with the gap's own error. */
  waitForCoverage(
    model: string | undefined,
    run: {
      signal: AbortSignal
      onNotice(text: string): void
      profile?: AskedProfile | undefined
      /** Throws what no peer can change. */
      check?(model: AskableModel): void
    },
  ): Promise<void>
  /** Takes nothing new and lets others go on elsewhere, or finish here (leave.ts); then stop. */
  leave(signal: AbortSignal): Promise<void>
  /** Says good-bye, closes circuits, frees everything. Idempotent. */
  stop(): Promise<void>
}

/** Builds a node from a home. Throws BAD_CONFIG, HOME_UNUSABLE, HOME_IN_USE, BAD_INPUT. */
export async function createNode(
  options: NodeOptions,
  deps: { logger: Logger; onStop?: () => void; care?: Partial<CareDeps> },
): Promise<LlmNode> {
  const { home, guest = false } = options
  const { logger } = deps
  await prepareHome(home)
  const config = await loadConfig(home, options)
  const network = await resolveNetwork(home, config)
  const identity = await openIdentity(home)
  const peer = await createPeerNode(
    {
      ...(await peerOptions(config.network, network)),
      dht: !guest,
      relay: !guest && config.network.relay ? relayLimits.node : undefined,
      ...(guest ? { upnp: false } : { folder: home.dataFolder }),
    },
    { identity, logger },
  )
  const startedMs = Date.now()
  const scores = createPeerScores(systemClock)
  const gate: ServiceGate = { paused: () => null, leaving: false }
  const events = createEventLog({ startedMs })
  const sessionsChanged = createSignal()
  const hops = createHopServer({ onSessions: sessionsChanged.fire })
  const swarm = await createSwarmView(
    {
      ...{ network: network.version, version: nodeVersion(), mayMeet: whoMayBeMet(config.privacy) },
      ...(guest ? { mesh: options.mesh } : { folder: home.dataFolder }),
    },
    { peer, identity, clock: systemClock, logger, scores },
  )
  const onion = createOnionService(
    {
      identity,
      network: network.version,
      relay: () => !guest && config.network.relay && !gate.leaving,
      lan: true,
      published: () => !guest,
      limits: relayingLimits(config.network),
    },
    {
      ...circuitParts(options, { transport: peer, compute: hops }),
      ...{ clock: systemClock, logger, onSentAway: scores.broke },
      isContact: createContactPeers(home, { book: swarm.book, clock: systemClock, logger }),
      ...(guest ? {} : { answers: createAnswers({ network, config }, () => parts, gate, logger) }),
    },
  )
  const generations = createGenerations(events)
  const idle = createIdleChains()
  swarm.onChange(() => idle.leave(leavingOf(swarm.peers())))
  const exclusions = createExclusions(systemClock, scores)
  // Also a guest keeps its guards: new ones each time would soon have shown it to every relay.
  const privacy = await createPrivacy(
    { file: join(home.dataFolder, 'guards.json'), config: config.privacy },
    { swarm, addrs: peer.self.addrs, clock: systemClock, logger },
  )
  const chats = createChatProfiles()
  const transcripts = createTranscripts(join(home.dataFolder, 'answers'), {
    key: identity.deriveKey('answers'),
    logger,
  })
  await transcripts.sweep()
  const audits = await openAuditBook(join(home.dataFolder, 'audits.json'), config.audit, {
    clock: systemClock,
    logger,
    scores,
  })
  const state = {
    ...{ events, generations, audits, exclusions, scores, idle, privacy },
    ...{ experience: createExperience(), chats, transcripts, models: [], startedMs, guest },
  }
  const parts: NodeParts = { config, network, identity, peer, onion, hops, swarm, ...state }
  return assemble(parts, options, { ...deps, gate, stopWatching: watchNode(parts, sessionsChanged) })
}

/** What circuits run on; with faults where a test asks for them. */
function circuitParts({ guest, faultsFile }: NodeOptions, parts: FaultyParts) {
  if (guest) return { transport: parts.transport, compute: null }
  return faultsFile === undefined ? parts : injectFaults(faultsFile, parts)
}

/** Addresses of peers that serve nobody new. */
function leavingOf(peers: ReturnType<SwarmView['peers']>): ReadonlySet<string> {
  return new Set(peers.filter(({ state }) => state === 'draining').map(({ address }) => address))
}

/** Why this node serves nobody now; null: it does. Known only once the layers are looked after. */
interface ServiceGate {
  paused: () => string | null
  /** It is about to stop: nothing new passes here either. */
  leaving: boolean
}

/** Answers over circuits: no sooner than there is a model, and not while the owner has paused. */
function createAnswers(
  { network, config }: Pick<NodeParts, 'network' | 'config'>,
  parts: () => NodeParts,
  gate: ServiceGate,
  logger: Logger,
): AnswerService {
  return createAnswering(
    { network: network.version, config: config.answers },
    {
      generate: (request, signal) => generateForOthers(parts(), request, signal),
      isReady: () => gate.paused() === null && parts().models.some(({ askable }) => askable !== undefined),
      clock: systemClock,
      logger,
    },
  )
}

function assemble(
  parts: NodeParts,
  options: NodeOptions,
  deps: { logger: Logger; onStop?: () => void; care?: Partial<CareDeps>; gate: ServiceGate; stopWatching: () => void },
): LlmNode {
  const { config, identity, peer, swarm, models } = parts
  const service = createLayerService(parts, options.home, deps)
  deps.gate.paused = () => service.paused
  const care = createCare(parts, options.home, {
    ...realCareDeps(),
    ...{ service, clock: systemClock, logger: deps.logger },
    ...deps.care,
  })
  const control = createControl({ ...parts, service, care }, deps.onStop ?? (() => {}))
  const state: { stopping?: Promise<void> } = {}
  const seeking = new AbortController()
  return {
    address: identity.address,
    network: parts.network,
    config,
    control,
    inference: createInference(parts),
    events: parts.events,
    care,
    async start() {
      const loading = service.load()
      // A network that cannot start is the first thing to say; models that were being loaded are put away by stop().
      loading.catch(() => {})
      await peer.start()
      await swarm.start()
      await loading
      await service.publish()
      peer.onReachability(() => void service.publish())
      seekPeers(parts, seeking.signal)
      if (!parts.guest) {
        care.start()
        await care.look()
      }
    },
    listening: () => listeningOf(parts),
    ask: (request, signal) => control.ask(checkAsk(request), signal),
    waitForCoverage: (name, run) => waitForCoverage(parts, name, run),
    async leave(signal) {
      await care.stop()
      deps.gate.leaving = true
      await leaveInOrder(parts, service, signal)
    },
    stop() {
      state.stopping ??= (async () => {
        parts.transcripts.keepAll()
        deps.stopWatching()
        seeking.abort()
        await care.stop()
        await swarm.stop()
        await parts.idle.clear()
        await parts.onion.stop()
        await parts.privacy.flush()
        await peer.stop()
        await Promise.all(models.map((model) => model.close()))
      })()
      return state.stopping
    },
  }
}

/** When to look in the DHT for others with the same models: soon, and again when the network has filled. */
const SEEK_MS = [3_000, 30_000]

function seekPeers({ models, swarm, config }: NodeParts, signal: AbortSignal): void {
  for (const delayMs of SEEK_MS) {
    const timer = setTimeout(() => {
      // Whoever is found there computes. Who asks guarded hears of them from others, once there are any.
      if (config.privacy.profile === 'guarded' && swarm.peers().some(({ self, connected }) => !self && connected))
        return
      for (const { holding, spec } of models) void swarm.seek(fromHex(holding.modelIdHex), spec.nLayers, { signal })
    }, delayMs)
    timer.unref()
    signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  }
}

/** How long a node that has just come waits for the swarm before it says what is missing. */
const COVERAGE_WAIT_MS = 15_000

async function waitForCoverage(
  parts: NodeParts,
  name: string | undefined,
  { signal, onNotice, check, profile = parts.config.privacy.profile }: Parameters<LlmNode['waitForCoverage']>[1],
): Promise<void> {
  const askables = parts.models.flatMap((model) => model.askable ?? [])
  const deps = entryDeps(parts)
  const covered = isCovered(deps, { solo: false, profile })
  check?.(chooseModel(askables, name, covered))
  const deadline = AbortSignal.timeout(COVERAGE_WAIT_MS)
  for (let waited = false; ; waited = true) {
    const changed = parts.swarm.nextChange(AbortSignal.any([signal, deadline]))
    try {
      requireCoverage(chooseModel(askables, name, covered), deps, profile)
      return
    } catch (error) {
      if (!waited) onNotice('Looking for peers …')
      signal.throwIfAborted()
      if (deadline.aborted || !(error instanceof LlmNodeError)) throw error
      await changed
    }
  }
}
