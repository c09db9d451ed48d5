import type { AskEvent, CheckedAskRequest, CoverageBody, NodeControl, PeerBody, StatusBody } from '../api/types.ts'
import { fromHex, toHex } from '../base/bytes.ts'
import { formatSpan } from '../base/span.ts'
import { compareVersions, updateCommand } from '../base/version.ts'
import { mapCoverage } from '../coverage/map.ts'
import { parseAddressUri } from '../p2p/address.ts'
import { askVia } from './ask-via.ts'
import { ADMIN, answer, answerAgain, runOf } from './askables.ts'
import type { Care } from './care.ts'
import { withErrorEvent } from './events.ts'
import { newAnswerId } from './generations.ts'
import type { LayerService } from './layer-service.ts'
import { linkQuality } from './link-quality.ts'
import type { LoadedModel } from './load-model.ts'
import { netcheck } from './netcheck.ts'
import { listeningOf, type NodeParts } from './parts.ts'
import { pingAddress } from './ping.ts'
import { entryDeps } from './serving.ts'
import { usageOf } from './usage.ts'
import { nodeVersion } from './version.ts'

/** A node's parts with what looks after its layers. */
interface ServingParts extends NodeParts {
  readonly service: LayerService
  readonly care: Care
}

/** A running node knows already whom it can ask. */
const PING_MS = 8_000

/** What the API may see and do of a node. */
export function createControl(parts: ServingParts, onStop: () => void): NodeControl {
  return {
    status: () => status(parts),
    peers: () => peers(parts),
    coverage: () => coverage(parts),
    usage: () => usageOf(parts),
    netcheck: (signal) => netcheck({ ...parts, private: parts.config.network.private }, signal),
    ping: (target, signal) => pingAddress(parts, parseAddressUri(target), { signal, withinMs: PING_MS }),
    sessions: () => parts.hops.sessions,
    generations: () => parts.generations.list(),
    stopGeneration: (id) => parts.generations.stop(id),
    ask: (request, signal) => withErrorEvent(askHere(parts, request, signal)),
    async pause(asked) {
      await parts.care.pause(asked)
      return { paused: parts.service.paused }
    },
    stop: onStop,
  }
}

async function* askHere(parts: NodeParts, request: CheckedAskRequest, signal: AbortSignal): AsyncGenerator<AskEvent> {
  const askables = parts.models.flatMap((model) => model.askable ?? [])
  const model = request.model ?? askables[0]?.name ?? ''
  const stopper = new AbortController()
  const run = { signal: AbortSignal.any([signal, stopper.signal]) }
  const deps = entryDeps(parts)
  const { resume, via } = request
  if (via !== undefined) {
    yield* askVia(parts, { ...request, via }, { ...run, profile: parts.config.privacy.profile })
    return
  }
  if (resume !== undefined) {
    const { id } = await parts.transcripts.open(resume === '' ? undefined : resume, ADMIN)
    const again = answerAgain(askables, { ...runOf(request), ...run, id, owner: ADMIN }, parts.transcripts, deps)
    yield* parts.generations.follow({ model, id, stop: () => stopper.abort() }, again)
    return
  }
  const id = newAnswerId()
  const events = answer(askables, request, { ...run, id }, deps, parts.config.privacy)
  yield* parts.generations.follow({ model, id, stop: () => stopper.abort() }, events)
}

function status(parts: ServingParts): StatusBody {
  const { config, identity, peer, hops, onion, models } = parts
  const peerIds = new Set(peer.connections().map((connection) => connection.peerId))
  return {
    address: identity.address,
    peerId: identity.peerId,
    network: config.network.name,
    version: nodeVersion(),
    pid: process.pid,
    uptimeS: (Date.now() - parts.startedMs) / 1000,
    listening: listeningOf(parts),
    reachability: reachabilityOf(parts),
    models: models.map((model) => ({
      name: model.name,
      modelId: model.holding.modelIdHex,
      recipe: model.holding.recipe,
      nLayers: model.spec.nLayers,
      layers: model.layers?.runner.span ?? null,
      ends: model.askable !== undefined,
    })),
    peers: peerIds.size,
    paused: parts.service.paused,
    moving: parts.care.moving,
    sessions: hops.sessions.length,
    relay: {
      on: config.network.relay,
      circuits: onion.stats().relayCircuits,
      most: config.network.relayCircuits,
    },
    circuits: onion.stats().relayCircuits + onion.stats().computeCircuits,
    kvBytes: models.reduce((sum, { layers }) => sum + (layers?.runner.memory().kvBytes ?? 0), 0),
    decode: hops.decode,
    rssBytes: process.memoryUsage.rss(),
    health: health(parts, peerIds.size),
  }
}

/** What of it is for everybody to see. */
export function reachabilityOf({ peer }: Pick<NodeParts, 'peer'>): StatusBody['reachability'] {
  const { word, ok, reason, next } = peer.reachability()
  return { word, ok, reason, next }
}

function health(parts: ServingParts, nPeers: number): StatusBody['health'] {
  const lines: StatusBody['health'][number][] = []
  lines.push(
    nPeers > 0
      ? { ok: true, text: `${nPeers} peer${nPeers === 1 ? '' : 's'} connected.`, next: null }
      : {
          ok: false,
          text: 'No peer is connected.',
          next: 'Nodes on one local network meet by themselves; elsewhere start with --bootstrap ADDRESS.',
        },
  )
  const { word, ok, reason, next } = reachabilityOf(parts)
  if (word !== 'unknown') lines.push({ ok, text: `Reachability: ${word}. ${reason}`, next })
  const { paused } = parts.service
  if (paused !== null) lines.push({ ok: true, text: `Serves nobody now: ${paused}.`, next: null })
  const { moving } = parts.care
  if (moving !== null) {
    const text = `Moves to layers ${formatSpan(moving.span)} of ${moving.model}, where the swarm needs it more.`
    lines.push({ ok: true, text, next: 'To stay instead: llm-node config set care.move false' })
  }
  for (const { name, reason } of parts.service.away) {
    const next = 'Free memory and start the node again, or hold fewer layers: llm-node plan'
    lines.push({ ok: false, text: `${name} is not in memory. ${reason}`, next })
  }
  lines.push(...versionHealth(parts))
  if (parts.swarm.duplicated) {
    lines.push({
      ok: false,
      text: 'Another machine runs with a copy of this home: both have the same address and take each other’s place.',
      next: 'Stop one of them; give it a home of its own (--home DIR, llm-node setup) and never copy the folder keys.',
    })
  }
  for (const model of coverage(parts).models) {
    const name = model.name ?? model.modelId.slice(0, 12)
    lines.push(
      model.complete
        ? { ok: true, text: `Every layer of ${name} is held.`, next: null }
        : {
            ok: false,
            text: `Layers ${model.gaps.map(formatSpan).join(', ')} of ${name} are held by nobody.`,
            next: 'Somebody has to hold them: llm-node setup --layers …',
          },
    )
  }
  return lines
}

/** Most of at least three peers run a newer program: so should this one. */
function versionHealth(parts: NodeParts): StatusBody['health'] {
  const own = nodeVersion()
  const others = parts.swarm.peers().filter(({ self }) => !self)
  const newer = others.filter(({ version }) => compareVersions(version, own) > 0)
  if (others.length < 3 || newer.length * 2 <= others.length) return []
  const [newest = own] = newer.map(({ version }) => version).sort((a, b) => compareVersions(b, a))
  return [
    { ok: false, text: `Most peers run llm-node ${newest}; this is ${own}.`, next: `Update it: ${updateCommand}` },
  ]
}

export function peers(parts: NodeParts): PeerBody[] {
  return parts.swarm
    .peers()
    .filter((peer) => !peer.self)
    .map(({ address, addressKey, peerId, state, connected, rttMs, version, reachability, serving }) => ({
      address,
      peerId,
      state,
      connected,
      rttMs,
      version,
      reachability,
      ...linkOf(parts, { peerId, rttMs, reachability }),
      score: parts.scores.of([address, peerId]),
      twoTruths: parts.swarm.book.contradictions.has(toHex(addressKey)),
      serving: serving.map(({ modelId, numericsClass, recipe, span, ...of }) => ({
        modelId: toHex(modelId),
        recipe,
        span,
        state: of.state,
        numericsClass: toHex(numericsClass),
        decodeMs: of.decodeMs,
        freeKvTokens: of.freeKvTokens,
      })),
    }))
}

/** The link to a peer as it is used; to one that is not connected as it would be. */
function linkOf(
  { peer }: NodeParts,
  { peerId, rttMs, reachability }: { peerId: string; rttMs: number | null; reachability: string },
): Pick<PeerBody, 'relayed' | 'transport' | 'quality'> {
  const transport = peer.connectionTo(peerId)?.transport ?? null
  const relayed = transport === null ? reachability === 'relayed' : transport === 'relay'
  return { relayed, transport, quality: linkQuality({ rttMs, relayed }) }
}

/** Models that are known here: this node's own, and those that its peers serve. */
export function coverage(parts: NodeParts): CoverageBody {
  const own = new Map<string, LoadedModel>(
    parts.models.map((model) => [`${model.holding.modelIdHex} ${model.holding.recipe}`, model] as const),
  )
  const seen = parts.swarm.peers().flatMap((peer) => peer.serving)
  const keys = new Set([...own.keys(), ...seen.map(({ modelId, recipe }) => `${toHex(modelId)} ${recipe}`)])
  const models = [...keys].map((key) => {
    const [modelId = '', recipe = ''] = key.split(' ')
    const model = own.get(key)
    const holders = parts.swarm.holders(fromHex(modelId), recipe)
    const lastLayer = Math.max(0, ...holders.map((holder) => holder.span.end))
    const { replicas, gaps } = mapCoverage(holders, model?.spec.nLayers ?? lastLayer)
    return {
      name: model?.name ?? null,
      modelId,
      recipe,
      nLayers: model?.spec.nLayers ?? null,
      replicas,
      gaps,
      complete: gaps.length === 0,
      holders: holders.map(({ address, span, state }) => {
        return { address, span, state, self: address === parts.identity.address }
      }),
    }
  })
  return { models }
}
