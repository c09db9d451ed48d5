import { randomInt } from 'node:crypto'
import { chmod } from 'node:fs/promises'
import { z } from 'zod'
import type { Clock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import { writeFileAtomic } from '../base/files.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { SwarmView } from '../coverage/announce.ts'
import { type Guard, keepGuards, presentGuards, type Relay } from '../coverage/guards.ts'
import type { PeerPlace } from '../coverage/path.ts'
import type { SwarmPeer } from '../coverage/swarm-peers.ts'
import { networkOf } from '../p2p/public-network.ts'
import type { Privacy } from '../pipeline/hop-contacts.ts'
import { readIfPresent } from './home.ts'

const guardsSchema = z.strictObject({
  version: z.literal(1),
  guards: z
    .array(z.strictObject({ address: z.string().max(64), sinceMs: z.int().nonnegative() }))
    .max(coverageLimits.guardsKept),
})

export interface NodePrivacy extends Privacy {
  /** Resolves when what was chosen is on the disk. */
  flush(): Promise<void>
}

/**
 * Guards of this home, in `file` (0600: it says through whom this node asks), and what the swarm view tells of peers.
 * `addrs`: this node's own, which tell whom it can dial in its network.
 * A file that cannot be read is begun anew: other guards harm less than none. Throws HOME_UNUSABLE.
 */
export async function createPrivacy(
  options: { file: string; config: Config['privacy'] },
  deps: { swarm: Pick<SwarmView, 'peers'>; addrs(): readonly string[]; clock: Clock; logger: Logger },
): Promise<NodePrivacy> {
  const { file, config } = options
  const { swarm, addrs, clock, logger } = deps
  const rules = { mayShare: config.allowSameOwner }
  let guards: readonly Guard[] = await readGuards(file, logger)
  let saving = Promise.resolve()
  const save = () => {
    const text = `${JSON.stringify({ version: 1, guards })}\n`
    saving = saving
      .then(() => writeFileAtomic(file, text, 0o600))
      .catch((error) => logger.warn({ error }, 'The guards could not be saved.'))
  }
  const random = () => randomInt(2 ** 32) / 2 ** 32
  return {
    trusted: new Set(config.trusted),
    ...(config.cadenceMs === null ? {} : { cadenceMs: config.cadenceMs }),
    ...rules,
    guards({ computing }) {
      const relays = relaysOf(swarm.peers(), addrs()).filter((relay) => computing || !relay.computes)
      const next = keepGuards(guards, relays, { nowMs: clock.nowMs(), random, ...rules })
      const changed = JSON.stringify(next) !== JSON.stringify(guards)
      guards = next
      if (changed) save()
      return presentGuards(guards, relays)
    },
    placeOf(address) {
      const peer = swarm.peers().find((each) => each.address === address)
      return peer === undefined ? { address, family: [], networks: [] } : placeOf(peer)
    },
    // Whoever has gone already is no concern of ours: its circuits have ended.
    isLeaving: (address) => swarm.peers().find((peer) => peer.address === address)?.relay === false,
    flush: () => saving,
  }
}

async function readGuards(file: string, logger: Logger): Promise<readonly Guard[]> {
  const text = await readIfPresent(file)
  if (text === undefined) return []
  await chmod(file, 0o600).catch(() => {})
  try {
    return guardsSchema.parse(JSON.parse(text)).guards
  } catch {
    logger.warn({ file }, 'The list of guards is damaged; others are chosen.')
    return []
  }
}

/**
 * Whom a node connects to of itself, to exchange adverts. One that asks guarded leaves out all that compute: a connection
 * from it would tell them its address, and that it may be one of those who ask (protocol.md §4).
 */
export function whoMayBeMet({ profile }: Config['privacy']): (peer: SwarmPeer) => boolean {
  return profile === 'guarded' ? ({ serving }) => serving.length === 0 : () => true
}

/** Private networks of addresses, /24 of IPv4 and /64 of IPv6, as text: whoever shares one can be dialled there. */
function localNetworks(addrs: readonly string[]): ReadonlySet<string> {
  const found = addrs.flatMap((addr) => {
    const [, protocol, ip = ''] = addr.split('/')
    if (networkOf(addr) !== undefined) return []
    if (protocol === 'ip4') return [ip.split('.').slice(0, 3).join('.')]
    return protocol === 'ip6' ? [ip.split(':').slice(0, 4).join(':')] : []
  })
  return new Set(found)
}

/** `unreachable` is said of nodes that nobody outside their own network can dial. */
function canBeDialled({ reachability, connected, addrs }: SwarmPeer, near: ReadonlySet<string>): boolean {
  if (reachability !== 'unreachable') return reachability !== 'relayed'
  return connected || [...localNetworks(addrs)].some((network) => near.has(network))
}

/** Everybody who forwards for others and can be dialled. */
function relaysOf(peers: readonly SwarmPeer[], ownAddrs: readonly string[]): Relay[] {
  const near = localNetworks(ownAddrs)
  return peers
    .filter((peer) => !peer.self && peer.relay && canBeDialled(peer, near) && peer.state !== 'draining')
    .map((peer) => ({ ...placeOf(peer), computes: peer.serving.length > 0 }))
}

function placeOf({ address, family, addrs }: SwarmPeer): PeerPlace {
  const networks = new Set(addrs.flatMap((addr) => networkOf(addr) ?? []))
  return { address, family, networks: [...networks] }
}
