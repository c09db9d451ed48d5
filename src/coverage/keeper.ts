import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Timers } from '../base/timers.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { AdvertEntry } from './advert-table.ts'
import { positionOf } from './crowd.ts'
import type { Feeds } from './feeds.ts'
import type { Gossip } from './gossip.ts'
import type { OwnAdvert } from './own-advert.ts'
import { pausedFor } from './pace.ts'
import type { RoundTrips } from './round-trips.ts'
import { type SwarmPeer, type SwarmSources, swarmPeers } from './swarm-peers.ts'

/** Default for KeeperDeps.tickMs. */
const TICK_MS = 5_000
const FIRST_SAMPLES = 3
/** A connected peer that answers nothing for so many ticks is doubted: late answers come from the busy, none from the gone. */
const SILENT_TICKS = 3
/** Round trips over that share of a tick tell of a busy peer, not of the way to it. */
const TRIP_TICKS = 0.6
/** Who looks at the clock so late is busy himself, and cannot tell who is silent. */
const BUSY_MS = 100
/** How often a digest is compared with some neighbour: the larger the swarm, the longer the digest (10 bytes a peer). */
const SYNC = { minMs: 30_000, msPerPeer: 100, maxMs: 90_000 }
/** The other side of a new connection starts the exchange; when it does not, this one does. */
const SECOND_SYNC_MS = 1_500
/** Who knows nobody yet waits no longer than that: the other side may be busy with many who come. */
const ALONE_SYNC_MS = 400
const MESH_RETRY_MS = 60_000
/** The more peers there are, the less often each neighbour is measured; a ping costs 1.2 KB with its stream. */
const MEASURE = { msPerPeer: 300, maxMs: 60_000 }
/** Neighbours among the nearest that a node in a crowd looks for. */
const NEAR = 4

/** Keeps the view fresh: exchanges with neighbours, doubts who left without a word, measures, and finds new neighbours. */
export interface Keeper {
  start(): void
  stop(): void
  connected(peerId: string): void
  disconnected(peerId: string): void
}

export interface KeeperDeps {
  readonly peer: Pick<PeerNode, 'self' | 'isConnected' | 'connect' | 'ping'>
  readonly clock: Clock
  readonly timers: Timers
  /** In [0, 1). */
  readonly random: () => number
  readonly logger: Logger
  readonly sources: SwarmSources
  readonly gossip: Pick<Gossip, 'neighbours' | 'join' | 'leave' | 'sync'>
  readonly feeds: Feeds
  readonly trips: RoundTrips
  readonly own: Pick<OwnAdvert, 'tick'>
  /** Something about the peers has changed. */
  readonly onChange: () => void
  /** How often neighbours are measured and ages looked at. */
  readonly tickMs?: number | undefined
  /** Connect to some peers that are not connected yet. */
  readonly mesh: boolean
  readonly mayMeet: (peer: SwarmPeer) => boolean
}

export function createKeeper(deps: KeeperDeps): Keeper {
  return new ViewKeeper(deps)
}

class ViewKeeper implements Keeper {
  readonly #deps: KeeperDeps
  readonly #tickMs: number
  readonly #stopping = new AbortController()
  readonly #timers = new Set<() => void>()
  /** When a peer that did not answer may be dialled again, by PeerId. */
  readonly #notBefore = new Map<string, number>()
  /** Connected peers that do not answer, by PeerId. */
  readonly #silent = new Set<string>()
  readonly #measuring = new Set<string>()
  readonly #measured = new Map<string, number>()
  /** When each neighbour was last compared with, by PeerId. */
  readonly #synced = new Map<string, number>()

  constructor(deps: KeeperDeps) {
    this.#deps = deps
    this.#tickMs = deps.tickMs ?? TICK_MS
  }

  start(): void {
    this.#every(
      () => this.#tickMs,
      () => this.#tick(),
    )
    this.#every(
      () => pausedFor(SYNC, this.#deps.sources.table.size),
      () => this.#syncSomebody(),
    )
  }

  stop(): void {
    this.#stopping.abort()
    for (const cancel of this.#timers) cancel()
  }

  connected(peerId: string): void {
    if (this.#stopping.signal.aborted) return
    this.#deps.gossip.join(peerId)
    this.#meet(peerId)
    const first = this.#deps.peer.self.peerId < peerId
    if (first) this.#after(0, () => this.#sync(peerId))
    else this.#after(ALONE_SYNC_MS, () => this.#syncSecond(peerId))
    this.#after(0, () => this.#measure(peerId))
    this.#changed()
  }

  disconnected(peerId: string): void {
    this.#deps.gossip.leave(peerId)
    this.#deps.trips.forget(peerId)
    this.#synced.delete(peerId)
    this.#silent.delete(peerId)
    this.#measured.delete(peerId)
    if (this.#stopping.signal.aborted) return
    this.#changed()
    this.#after(0, () => this.#probe(peerId))
  }

  /** A peer that left without a tombstone is looked for once; if it does not answer, its layers do not count. */
  async #probe(peerId: string): Promise<void> {
    const { sources } = this.#deps
    const lost = sources.table.live(this.#nowMs()).filter(({ advert }) => advert.peerId === peerId)
    if (lost.length === 0 || this.#deps.peer.isConnected(peerId)) return
    const addrs = lost.flatMap(({ advert }) => sources.book.get(advert.addressKey)?.record.addrs ?? [])
    try {
      await this.#deps.peer.connect({ peerId, addrs }, { signal: this.#stopping.signal })
    } catch {
      if (this.#stopping.signal.aborted) return
      this.#doubt(peerId, 'it cannot be reached again')
    }
  }

  async #tick(): Promise<void> {
    const { sources, gossip, feeds, own } = this.#deps
    const nowMs = this.#nowMs()
    if (sources.table.expire(nowMs)) this.#changed()
    feeds.choose(sources.table.size)
    await own.tick()
    const pauseMs = pausedFor({ ...MEASURE, minMs: 0.5 * this.#tickMs }, sources.table.size)
    const isDue = (peerId: string) => {
      // One that is silent is asked again at once: so its return shows as fast in any swarm.
      const dueMs = (this.#measured.get(peerId) ?? Number.NEGATIVE_INFINITY) + (this.#silent.has(peerId) ? 0 : pauseMs)
      return dueMs <= nowMs && !this.#measuring.has(peerId)
    }
    const due = [...gossip.neighbours].slice(0, coverageLimits.measured).filter(isDue)
    // Nobody waits for them: one that is silent would keep the others waiting.
    for (const peerId of due) void this.#run(() => this.#measure(peerId))
    if (this.#deps.mesh) await this.#mesh()
  }

  /** A link may be dead without its end being known here, as when a cable is pulled: then the peer falls silent. */
  async #measure(peerId: string): Promise<void> {
    const { peer, trips, gossip } = this.#deps
    const timeout = new AbortController()
    const [startMs, limitMs] = [this.#nowMs(), SILENT_TICKS * this.#tickMs]
    const cancel = this.#deps.timers.after(limitMs, () => timeout.abort())
    const signal = AbortSignal.any([this.#stopping.signal, timeout.signal])
    this.#measured.set(peerId, startMs)
    this.#measuring.add(peerId)
    let answers = 0
    try {
      // A peer that has just come is busy with others that have, too: its first round trip alone would tell of that.
      const samples = trips.has(peerId) ? 1 : FIRST_SAMPLES
      for (; answers < samples; answers++) {
        const rttMs = await peer.ping(peerId, { signal })
        this.#silent.delete(peerId)
        this.#meet(peerId)
        if (gossip.neighbours.has(peerId) && rttMs <= TRIP_TICKS * this.#tickMs) trips.add(peerId, rttMs)
      }
    } catch {
      // Only silence counts: a refused stream is an answer.
      const isLate = this.#nowMs() > startMs + limitMs + BUSY_MS
      if (timeout.signal.aborted && answers === 0 && !isLate && gossip.neighbours.has(peerId)) this.#fellSilent(peerId)
    } finally {
      cancel()
      this.#measuring.delete(peerId)
    }
  }

  #fellSilent(peerId: string): void {
    if (this.#silent.has(peerId)) return
    this.#silent.add(peerId)
    this.#doubt(peerId, 'it answers nothing')
  }

  #meet(peerId: string): void {
    const { table } = this.#deps.sources
    const nowMs = this.#nowMs()
    // All of them, not only the first one that was silent.
    const back = entriesOf(this.#deps.sources, peerId).filter(({ advert }) => table.met(advert.addressKey, nowMs))
    if (back.length > 0) this.#changed()
  }

  #doubt(peerId: string, reason: string): void {
    const { table } = this.#deps.sources
    this.#deps.logger.debug({ peerId, reason }, 'the layers of a peer do not count until it is heard of')
    for (const { advert } of entriesOf(this.#deps.sources, peerId)) table.doubt(advert.addressKey, this.#nowMs())
    this.#changed()
  }

  /** One connection more while there are few: a swarm must not hang on the node through which everybody came. */
  async #mesh(): Promise<void> {
    const { sources, gossip, random, mayMeet } = this.#deps
    const nowMs = this.#nowMs()
    const isFew = gossip.neighbours.size < coverageLimits.meshPeers
    if (!isFew && sources.table.reach.radii.size === 0) return
    const candidates = swarmPeers(sources, nowMs).filter(
      (peer) =>
        !peer.self &&
        !peer.connected &&
        peer.addrs.length > 0 &&
        (this.#notBefore.get(peer.peerId) ?? 0) <= nowMs &&
        mayMeet(peer),
    )
    const chosen =
      this.#nearer(candidates) ?? (isFew ? candidates[Math.floor(random() * candidates.length)] : undefined)
    if (chosen === undefined) return
    if (this.#notBefore.size >= coverageLimits.peers) this.#notBefore.clear()
    this.#notBefore.set(chosen.peerId, nowMs + MESH_RETRY_MS)
    await this.#deps.peer.connect(chosen, { signal: this.#stopping.signal })
  }

  /** In a crowd: the candidate nearest to this node, when fewer than some neighbours are nearer. They keep the same peers. */
  #nearer(candidates: readonly SwarmPeer[]): SwarmPeer | undefined {
    const { sources, gossip } = this.#deps
    const { position, radii } = sources.table.reach
    if (radii.size === 0 || gossip.neighbours.size >= coverageLimits.meshMost) return undefined
    const far = (addressKey: Uint8Array) => (positionOf(addressKey) ^ position) >>> 0
    const [nearest] = [...candidates].sort((a, b) => far(a.addressKey) - far(b.addressKey))
    if (nearest === undefined) return undefined
    const limit = far(nearest.addressKey)
    const nearer = sources.table
      .all()
      .filter(({ advert }) => gossip.neighbours.has(advert.peerId) && far(advert.addressKey) < limit)
    return nearer.length < NEAR ? nearest : undefined
  }

  async #syncSecond(peerId: string): Promise<void> {
    const { table, ownKey } = this.#deps.sources
    const isAlone = table.all().every(({ advert }) => equalBytes(advert.addressKey, ownKey))
    if (isAlone) await this.#sync(peerId)
    else this.#after(SECOND_SYNC_MS - ALONE_SYNC_MS, () => this.#sync(peerId))
  }

  async #syncSomebody(): Promise<void> {
    const { neighbours } = this.#deps.gossip
    const longest = [...neighbours].sort((a, b) => (this.#synced.get(a) ?? 0) - (this.#synced.get(b) ?? 0))[0]
    if (longest !== undefined) await this.#sync(longest)
  }

  async #sync(peerId: string): Promise<void> {
    if (!this.#deps.gossip.neighbours.has(peerId)) return
    this.#synced.set(peerId, this.#nowMs())
    await this.#deps.gossip.sync(peerId)
  }

  #changed(): void {
    this.#deps.onChange()
  }

  #nowMs(): number {
    return this.#deps.clock.monotonicMs()
  }

  #run(task: () => Promise<void>): Promise<void> {
    return task().catch((err) => {
      if (!this.#stopping.signal.aborted) this.#deps.logger.debug({ err }, 'keeping the swarm view fresh')
    })
  }

  #after(delayMs: number, task: () => Promise<void>): void {
    if (this.#stopping.signal.aborted) return
    const cancel = this.#deps.timers.after(delayMs, () => {
      this.#timers.delete(cancel)
      void this.#run(task)
    })
    this.#timers.add(cancel)
  }

  /** Again and again, each time after the one before has ended, a little unevenly so that a swarm does not beat in time. */
  #every(periodMs: () => number, task: () => Promise<void>): void {
    this.#after(periodMs() * (0.9 + this.#deps.random() / 5), async () => {
      await this.#run(task)
      this.#every(periodMs, task)
    })
  }
}

function entriesOf({ table }: SwarmSources, peerId: string): AdvertEntry[] {
  return table.all().filter(({ advert }) => advert.peerId === peerId)
}
