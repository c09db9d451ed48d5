import { setTimeout as delay } from 'node:timers/promises'
import type { PeerBody } from '../api/types.ts'
import { fromHex } from '../base/bytes.ts'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import type { SwarmView } from '../coverage/announce.ts'
import type { Assigned } from '../coverage/assign.ts'
import type { LayerHolder, ServingState } from '../coverage/map.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import { findAdmin } from './admin-client.ts'
import type { Home } from './home.ts'
import { visitSwarm } from './visit.ts'

/** What others hold of one model, by recipe ("i8/1"). */
export interface SwarmGlance {
  /** Peers that were met, whatever they hold. */
  readonly peers: number
  readonly holders: ReadonlyMap<string, readonly LayerHolder[]>
}

/** Nobody answered for that long: there is no swarm here. mDNS needs about a second. */
const ALONE_MS = 3_000
/** With bootstrap addresses, which may be far away. */
const REACH_MS = 8_000
/** Nothing new for that long: what is known now is what there is. */
const QUIET_MS = 700
const LOOK_MS = 100
/** The DHT is asked that often, and for so many layers: the model's own number is not read yet. */
const SEEK_MS = 500
const SEEK_LAYERS = 48
/** A relayed holder counts a fifth (swarm.md §5). */
const RELAY_FACTOR = 5

export const nobody: SwarmGlance = { peers: 0, holders: new Map() }

/**
 * Who holds what of a model: asked through the node that runs on this home, otherwise by taking part in the network for a
 * moment without saying anything. Takes at most 8 s. Throws HOME_UNUSABLE, HOME_IN_USE, ABORTED.
 */
export async function lookAround(
  home: Home,
  config: Config,
  modelIdHex: string,
  deps: { signal: AbortSignal; logger: Logger },
): Promise<SwarmGlance> {
  const admin = await findAdmin(home)
  if (admin !== undefined) {
    const { peers } = await admin.get<{ peers: PeerBody[] }>('/api/peers')
    return fromPeers(peers, modelIdHex)
  }
  const { bootstrap } = config.network
  return await visitSwarm(home, config, deps, async ({ peer, swarm }) => {
    const ended = new AbortController()
    const seeking = seekHolders({ peer, swarm }, modelIdHex, AbortSignal.any([deps.signal, ended.signal]))
    await settle(swarm, peer, bootstrap.length > 0, deps.signal).finally(() => ended.abort())
    await seeking
    return glance(swarm, modelIdHex)
  })
}

/** Asks the DHT who holds layers of the model, until it knows somebody: those who are met may know nothing of it. */
async function seekHolders(
  { peer, swarm }: { peer: PeerNode; swarm: SwarmView },
  modelIdHex: string,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await delay(SEEK_MS, undefined, { signal }).catch(() => {})
    if (signal.aborted) return
    if (peer.connections().length === 0) continue
    if ((await swarm.seek(fromHex(modelIdHex), SEEK_LAYERS, { signal })) > 0) return
  }
}

/** Until nothing new comes, at most 8 s. Throws ABORTED. */
export async function settle(
  swarm: SwarmView,
  peer: PeerNode,
  hasBootstrap: boolean,
  signal: AbortSignal,
): Promise<void> {
  const startedMs = performance.now()
  let changedMs = startedMs
  const unsubscribe = swarm.onChange(() => {
    changedMs = performance.now()
  })
  try {
    for (;;) {
      if (signal.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
      const nowMs = performance.now()
      const met = swarm.peers().some(({ self }) => !self)
      if (met && nowMs - changedMs >= QUIET_MS) return
      if (nowMs - startedMs >= REACH_MS) return
      if (!hasBootstrap && peer.connections().length === 0 && nowMs - startedMs >= ALONE_MS) return
      await swarm.nextChange(AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]))
    }
  } finally {
    unsubscribe()
  }
}

/** What is known now. */
export function glance(swarm: SwarmView, modelIdHex: string): SwarmGlance {
  const peers = swarm.peers().filter(({ self }) => !self)
  const modelId = fromHex(modelIdHex)
  const recipes = new Set(peers.flatMap(({ serving }) => serving.map(({ recipe }) => recipe)))
  const own = new Set(swarm.peers().flatMap(({ self, address }) => (self ? [address] : [])))
  const holders = new Map<string, readonly LayerHolder[]>()
  for (const recipe of recipes) {
    const others = swarm.holders(modelId, recipe).filter(({ address }) => !own.has(address))
    if (others.length > 0) holders.set(recipe, others)
  }
  return { peers: peers.length, holders }
}

function fromPeers(peers: readonly PeerBody[], modelIdHex: string): SwarmGlance {
  const holders = new Map<string, LayerHolder[]>()
  for (const { address, rttMs, relayed, serving } of peers) {
    for (const { modelId, recipe, state, ...figures } of serving) {
      if (modelId !== modelIdHex) continue
      const list = holders.get(recipe) ?? []
      list.push({ address, rttMs, relayed, neighbourRttMs: new Map(), state: state as ServingState, ...figures })
      holders.set(recipe, list)
    }
  }
  return { peers: peers.length, holders }
}

/** As assignment sees them. Who is leaving does not count; who is coming does. */
export function assignedOf(holders: readonly LayerHolder[]): Assigned[] {
  return holders
    .filter(({ state }) => state !== 'draining')
    .map(({ address, span, decodeMs, relayed }) => {
      return { id: address, span, msPerLayer: decodeMs * (relayed ? RELAY_FACTOR : 1) }
    })
}
