/** A swarm of simulated nodes with churn, liars and NAT, and what is measured in it. */

import { createRandom } from '../../src/base/random.ts'
import type { Span } from '../../src/base/span.ts'
import { isWithin } from '../../src/coverage/crowd.ts'
import { mapCoverage } from '../../src/coverage/map.ts'
import { findRoute } from '../../src/coverage/route.ts'
import { layerHolders } from '../../src/coverage/swarm-peers.ts'
import { createSimClock } from './sim-clock.ts'
import { createSimNetwork } from './sim-network.ts'
import { createSimNode, type Honesty, MODEL_ID, RECIPE, type SimNode, type SimWorld } from './sim-node.ts'
import { acquaint } from './sim-standing.ts'

const N_LAYERS = 32
const MINUTE = 60_000
/** Half of the nodes are replaced in an hour. */
const LEAVE_PER_MS = Math.LN2 / (60 * MINUTE)
const LIARS = 0.05
const BEHIND_NAT = 0.2
/** How often a node's free KV changes. */
const FIGURES_MS = 2 * MINUTE
const LOOK_MS = 250
const VIEWERS = 40

export interface SwarmOptions {
  readonly size: number
  /** All join within this time, then the swarm settles, then it is measured. */
  readonly joinMs: number
  /** They come unconnected, and then know each other as if for long: thousands who join at once cost hours to simulate. */
  readonly standing?: boolean
  readonly settleMs: number
  readonly measureMs: number
  readonly newcomers: number
  readonly requests: number
  readonly seed: number
}

export interface SwarmFigures {
  readonly size: number
  /** Ms until a newcomer's map has no gap, each. */
  readonly coverageMs: readonly number[]
  /** Ms until it knows 95 % of those it keeps in the end, each. */
  readonly knowledgeMs: readonly number[]
  /** Bytes sent (and, the same on average, received) per node and minute, and by the node that sent most. */
  readonly bytesPerMinute: number
  readonly mostBytesPerMinute: number
  /** Longest time that a node which died without a word was in somebody's view, and how many died. */
  readonly ghostMs: number
  readonly deaths: number
  /** Share of live nodes missing from the views that should show them. */
  readonly missing: number
  readonly entries: number
  readonly neighbours: number
  /** Share of requests served, at the first try and in three; load of the busiest node over the mean. */
  readonly servedFirst: number
  readonly served: number
  readonly busiest: number
  readonly events: number
}

export async function simulateSwarm(options: SwarmOptions): Promise<SwarmFigures> {
  return await new Simulation(options).run()
}

class Simulation {
  readonly #options: SwarmOptions
  readonly #world: SimWorld
  readonly #nodes = new Map<string, SimNode>()
  readonly #coverageMs: number[] = []
  readonly #knowledgeMs: number[] = []
  #dealt = 0
  #ghostMs = 0
  #deaths = 0

  constructor(options: SwarmOptions) {
    this.#options = options
    const next = createRandom(options.seed)
    const random = () => next() / 2 ** 32
    const clock = createSimClock()
    const network = createSimNetwork(clock, random)
    this.#world = { clock, network, random, contacts: new Map(), adverts: new Map() }
  }

  async run(): Promise<SwarmFigures> {
    const { size, joinMs, standing = false, settleMs, measureMs, newcomers } = this.#options
    const { clock } = this.#world
    const come = () => void (standing ? this.#create() : this.#join())
    for (let i = 0; i < size; i++) clock.after((joinMs * i) / size, come)
    await clock.runUntil(joinMs)
    if (standing) this.#stand(settleMs / 2)
    this.#churn()
    await clock.runUntil(joinMs + settleMs)
    const before = new Map([...this.#nodes.values()].map(({ link }) => [link, link.sentBytes]))
    for (let i = 0; i < newcomers; i++) {
      clock.after((0.7 * measureMs * i) / newcomers, () => void this.#watchNewcomer())
    }
    await clock.runUntil(joinMs + settleMs + measureMs)
    const sent = [...before].flatMap(([link, bytes]) =>
      link.alive ? (link.sentBytes - bytes) / (measureMs / MINUTE) : [],
    )
    return {
      size,
      coverageMs: this.#coverageMs,
      knowledgeMs: this.#knowledgeMs,
      bytesPerMinute: mean(sent),
      mostBytesPerMinute: Math.max(...sent),
      ghostMs: this.#ghostMs,
      deaths: this.#deaths,
      missing: this.#missing(),
      entries: mean(this.#sample(100).map(({ core }) => core.sources.table.size)),
      neighbours: mean([...this.#nodes.values()].map(({ link }) => link.connections.size)),
      ...this.#serve(),
      events: clock.nEvents,
    }
  }

  /** Everybody knows whom he keeps, and connects to three within so many ms. */
  #stand(withinMs: number): void {
    const { random, clock } = this.#world
    acquaint([...this.#nodes.values()])
    for (const node of this.#nodes.values()) {
      clock.after(withinMs * random(), () => this.#connect(node, this.#entrances()))
    }
  }

  /** Three that can be dialled, as a node would find them at a meeting point of the DHT. */
  #entrances(): SimNode[] {
    return this.#sample(3, ({ link }) => !link.isBehindNat)
  }

  #connect({ link }: SimNode, others: readonly SimNode[]): void {
    for (const { peerId } of others) {
      if (peerId !== link.node.self.peerId)
        link.node.connect({ peerId, addrs: [] }, { signal: neverAborted }).catch(() => {})
    }
  }

  async #join(): Promise<SimNode> {
    return await this.#create(this.#entrances())
  }

  async #create(entrances: readonly SimNode[] = []): Promise<SimNode> {
    const { random, clock } = this.#world
    const lie = random()
    const honesty: Honesty = lie > LIARS ? 'honest' : lie > LIARS / 2 ? 'mute' : 'forger'
    const isBehindNat = this.#nodes.size >= 3 && random() < BEHIND_NAT
    const node = await createSimNode({ span: this.#deal(), isBehindNat, honesty }, this.#world)
    this.#nodes.set(node.peerId, node)
    this.#connect(node, entrances)
    await node.publish(4_096)
    const wander = () => {
      if (!node.link.alive) return
      void node.publish(256 * 2 ** Math.floor(6 * random()))
      clock.after(FIGURES_MS * (0.5 + random()), wander)
    }
    clock.after(FIGURES_MS * random(), wander)
    return node
  }

  /** Spans of 4, 8 and 16 layers, dealt so that every layer is held about as often. */
  #deal(): Span {
    const length = [4, 8, 16][Math.floor(3 * this.#world.random())] ?? 4
    const start = this.#dealt % N_LAYERS
    const span = { start, end: Math.min(N_LAYERS, start + length) }
    this.#dealt += span.end - span.start
    return span
  }

  /** Nodes leave, half of them without a word, and others take their place. */
  #churn(): void {
    const { random, clock } = this.#world
    const pauseMs = -Math.log(1 - random()) / (LEAVE_PER_MS * this.#options.size)
    clock.after(pauseMs, () => {
      const [leaving] = this.#sample(1)
      if (leaving !== undefined) void this.#leave(leaving, random() < 0.5)
      void this.#join()
      this.#churn()
    })
  }

  async #leave(node: SimNode, farewell: boolean): Promise<void> {
    this.#nodes.delete(node.peerId)
    const diedMs = this.#world.clock.monotonicMs()
    await node.stop(farewell)
    if (farewell) return
    this.#deaths++
    const viewers = this.#sample(VIEWERS)
    const look = () => {
      const nowMs = this.#world.clock.monotonicMs()
      const sees = viewers.some(({ link, core: { sources } }) => {
        const entry = link.alive ? sources.table.get(node.addressKey) : undefined
        return entry !== undefined && sources.table.isLive(entry, nowMs)
      })
      if (!sees) return
      this.#ghostMs = Math.max(this.#ghostMs, nowMs - diedMs)
      this.#world.clock.after(1_000, look)
    }
    look()
  }

  async #watchNewcomer(): Promise<void> {
    const { clock } = this.#world
    const startMs = clock.monotonicMs()
    const node = await this.#join()
    let covered = false
    const look = () => {
      const nowMs = clock.monotonicMs()
      if (!node.link.alive || nowMs - startMs > MINUTE) return
      if (!covered && mapCoverage(this.#holders(node), N_LAYERS).gaps.length === 0) {
        covered = true
        this.#coverageMs.push(nowMs - startMs)
      }
      if (covered && this.#missingIn(node) <= 0.05) this.#knowledgeMs.push(nowMs - startMs)
      else clock.after(LOOK_MS, look)
    }
    look()
  }

  #holders({ core }: SimNode) {
    return layerHolders(core.sources, { modelId: MODEL_ID, recipe: RECIPE }, this.#world.clock.monotonicMs())
  }

  /** Share of the live nodes within its reach that a node does not know. */
  #missingIn({ core: { sources }, peerId }: SimNode): number {
    const nowMs = this.#world.clock.monotonicMs()
    const { reach } = sources.table
    let [wanted, missing] = [0, 0]
    for (const other of this.#nodes.values()) {
      const own = other.core.sources.table.get(other.addressKey)
      // A node that has just come is not yet to be known.
      if (
        own === undefined ||
        other.peerId === peerId ||
        other.joinedMs > nowMs - MINUTE ||
        !isWithin(own.advert, reach)
      )
        continue
      wanted++
      const entry = sources.table.get(other.addressKey)
      if (entry === undefined || !sources.table.isLive(entry, nowMs)) missing++
    }
    return wanted === 0 ? 1 : missing / wanted
  }

  #missing(): number {
    const old = this.#world.clock.monotonicMs() - MINUTE
    return mean(
      this.#sample(VIEWERS, ({ joinedMs, honesty }) => joinedMs < old && honesty !== 'mute').map((node) =>
        this.#missingIn(node),
      ),
    )
  }

  /** Requests from random nodes over routes of their own views; who fails is left out at the next try. */
  #serve(): Pick<SwarmFigures, 'servedFirst' | 'served' | 'busiest'> {
    const { random } = this.#world
    const { requests } = this.#options
    const load = new Map<string, number>()
    const byAddress = new Map([...this.#nodes.values()].map((node) => [addressIn(node), node]))
    let [first, served] = [0, 0]
    for (const asker of Array.from({ length: requests }, () => this.#sample(1)[0])) {
      if (asker === undefined) continue
      const holders = this.#holders(asker)
      const excluded = new Set<string>()
      for (let attempt = 0; attempt < 3; attempt++) {
        const span = { start: 0, end: N_LAYERS }
        const request = { span, maxContext: 512, maxHops: 8, modelName: 'model', excluded, random }
        const hops = tryRoute(() => findRoute(holders, request).hops)
        const broken = hops?.find(
          ({ holder }) =>
            byAddress.get(holder.address)?.honesty !== 'honest' && byAddress.get(holder.address) !== asker,
        )
        if (hops === undefined) break
        if (broken !== undefined) {
          excluded.add(broken.holder.address)
          continue
        }
        if (attempt === 0) first++
        served++
        for (const { holder, span: done } of hops) {
          load.set(holder.address, (load.get(holder.address) ?? 0) + done.end - done.start)
        }
        break
      }
    }
    const total = [...load.values()].reduce((sum, layers) => sum + layers, 0)
    return {
      servedFirst: first / requests,
      served: served / requests,
      busiest: Math.max(0, ...load.values()) / (total / this.#nodes.size),
    }
  }

  #sample(count: number, fits: (node: SimNode) => boolean = () => true): SimNode[] {
    const pool = [...this.#nodes.values()]
    const picked = new Set<SimNode>()
    for (let tries = 0; tries < 20 * count && picked.size < count && pool.length > 0; tries++) {
      const node = pool[Math.floor(this.#world.random() * pool.length)]
      if (node !== undefined && fits(node)) picked.add(node)
    }
    return [...picked]
  }
}

const neverAborted = new AbortController().signal

function addressIn({ core: { sources } }: SimNode): string {
  return layerHolders(sources, { modelId: MODEL_ID, recipe: RECIPE }, 0).find(({ rttMs }) => rttMs === 0)?.address ?? ''
}

function tryRoute<T>(find: () => T): T | undefined {
  try {
    return find()
  } catch {
    return undefined
  }
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0) / values.length
}
