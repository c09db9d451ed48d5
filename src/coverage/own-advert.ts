import { randomBytes } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { Identity } from '../p2p/identity.ts'
import type { ReachabilityWord } from '../p2p/judge-reachability.ts'
import type { SequenceCounter } from '../p2p/sequence.ts'
import { type Advert, type AdvertSigner, advertIdOf, encodeAdvert, encodeTombstone, type Serving } from './advert.ts'
import type { AdvertTable } from './advert-table.ts'
import type { Change } from './gossip-messages.ts'
import { createChain, encodeHeartbeat, LINK_BYTES } from './heartbeat.ts'

const HEARTBEAT_MS = 60_000
const RENEW_MS = 1_800_000
/** Figures that wander (speed, free KV, round trips) are told at most that often; layers and states at once. */
const FIGURES_MS = 10_000
/** Round trips tremble more and matter less. */
const LINKS_MS = 60_000
/** In a large swarm both wait longer, so that all peers together tell no more than 50 times a minute. */
const MS_PER_PEER = 1_200

export interface OwnFacts {
  readonly serving: readonly Serving[]
  readonly relay: boolean
  readonly reachability: ReachabilityWord
}

/** This node's own advert: issued on change, renewed, kept alive by heartbeats, ended by a tombstone. */
export interface OwnAdvert {
  /** Resolves when the first advert with these facts is out, or the change is scheduled. */
  publish(facts: OwnFacts): Promise<void>
  /** Issues the same again under a higher number, once there is one: who has taken this node's place is to notice. */
  repeat(): Promise<void>
  /** Looks after heartbeats, renewal and wandering figures; call every few seconds. */
  tick(): Promise<void>
  /** Says good-bye. Nothing is issued any more. */
  end(): Promise<void>
}

export interface OwnAdvertDeps {
  readonly identity: Pick<Identity, 'addressKey' | 'peerId' | 'sign'>
  readonly table: AdvertTable
  readonly sequence: SequenceCounter
  readonly neighbours: () => Advert['neighbours']
  readonly spread: (addressKey: Uint8Array, change: Change, options?: { everybody?: boolean }) => void
  readonly onChange: () => void
  readonly clock: Clock
  readonly logger: Logger
}

interface Issued {
  readonly id: Uint8Array
  readonly chain: readonly Uint8Array[]
  readonly structure: string
  readonly figures: string
  readonly links: string
  readonly issuedMs: number
  index: number
  beatMs: number
}

export function createOwnAdvert(options: { network: string; version: string }, deps: OwnAdvertDeps): OwnAdvert {
  return new Issuer(options, deps)
}

class Issuer implements OwnAdvert {
  readonly #options: { readonly network: string; readonly version: string }
  readonly #deps: OwnAdvertDeps
  #facts: OwnFacts | undefined
  #issued: Issued | undefined
  #ended = false
  #queue: Promise<void> = Promise.resolve()

  constructor(options: { network: string; version: string }, deps: OwnAdvertDeps) {
    this.#options = options
    this.#deps = deps
  }

  publish(facts: OwnFacts): Promise<void> {
    this.#facts = facts
    return this.#enqueue(() => this.#issueIfDue())
  }

  repeat(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#facts !== undefined && this.#issued !== undefined && !this.#ended) await this.#issue(this.#facts)
    })
  }

  tick(): Promise<void> {
    return this.#enqueue(async () => {
      await this.#issueIfDue()
      if (!this.#ended) this.#beat()
    })
  }

  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    await this.#queue
    if (this.#issued === undefined) return
    const { identity, table, sequence, spread, clock } = this.#deps
    const tombstone = { addressKey: identity.addressKey, sequence: await sequence.next(clock.nowMs()) }
    table.addTombstone(encodeTombstone(tombstone, this.#signer()), clock.monotonicMs())
    spread(identity.addressKey, 'tombstone', { everybody: true })
  }

  /** One after the other: each advert has a number of its own, and numbers rise. */
  #enqueue(task: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(task)
    this.#queue = result.catch((err) => this.#deps.logger.warn({ err }, 'the advert could not be issued'))
    return result
  }

  async #issueIfDue(): Promise<void> {
    const facts = this.#facts
    if (facts === undefined || this.#ended) return
    if (this.#issued === undefined) return this.#issue(facts)
    const before = this.#issued
    const now = summary(facts, this.#deps.neighbours())
    const ageMs = this.#deps.clock.monotonicMs() - before.issuedMs
    const crowdMs = MS_PER_PEER * this.#deps.table.size
    const moved = now.figures !== before.figures && ageMs >= Math.max(FIGURES_MS, crowdMs)
    const linksMoved = now.links !== before.links && ageMs >= Math.max(LINKS_MS, crowdMs)
    if (now.structure !== before.structure || moved || linksMoved || ageMs >= RENEW_MS) await this.#issue(facts)
  }

  async #issue(facts: OwnFacts): Promise<void> {
    const { identity, table, clock, spread, onChange } = this.#deps
    const measured = this.#deps.neighbours()
    const sequence = await this.#deps.sequence.next(clock.nowMs())
    if (this.#ended) return
    const owner = { addressKey: identity.addressKey, sequence }
    const chain = createChain(owner, Uint8Array.from(randomBytes(LINK_BYTES)))
    const advert: Advert = {
      ...owner,
      peerId: identity.peerId,
      serving: facts.serving.map(coarseServing),
      relay: facts.relay,
      reachability: facts.reachability,
      neighbours: measured.map((entry) => ({ ...entry, rttMs: coarse(entry.rttMs) })),
      version: this.#options.version,
      chainEnd: chain[0] ?? new Uint8Array(LINK_BYTES),
    }
    const bytes = encodeAdvert(advert, this.#signer())
    const nowMs = clock.monotonicMs()
    table.addAdvert(bytes, 0, nowMs)
    const id = advertIdOf(bytes)
    this.#issued = { id, chain, ...summary(facts, measured), issuedMs: nowMs, index: 0, beatMs: nowMs }
    spread(identity.addressKey, 'advert')
    onChange()
  }

  #beat(): void {
    const { identity, table, clock, spread } = this.#deps
    const issued = this.#issued
    const nowMs = clock.monotonicMs()
    if (issued === undefined || nowMs - issued.beatMs < HEARTBEAT_MS) return
    const link = issued.chain[issued.index + 1]
    if (link === undefined) return
    issued.index++
    issued.beatMs = nowMs
    table.addHeartbeat(encodeHeartbeat({ advertId: issued.id, index: issued.index, link }), 0, nowMs)
    spread(identity.addressKey, 'heartbeat')
  }

  #signer(): AdvertSigner {
    return { network: this.#options.network, sign: this.#deps.identity.sign }
  }
}

/** What is told at once when it changes, and what may wait. */
function summary(facts: OwnFacts, neighbours: Advert['neighbours']): Pick<Issued, 'structure' | 'figures' | 'links'> {
  const serving = facts.serving.map(coarseServing)
  const plain = ({ modelId, span, recipe, numericsClass, state, layerDigests }: Serving) =>
    [modelId, numericsClass, layerDigests]
      .map((bytes) => Buffer.from(bytes).toString('hex'))
      .concat(`${span.start}-${span.end}`, recipe, state)
  return {
    structure: JSON.stringify([serving.map(plain), facts.relay, facts.reachability]),
    figures: JSON.stringify([
      serving.map(({ decodeMs, prefillMs, freeKvTokens }) => [decodeMs, prefillMs, freeKvTokens]),
      neighbours.length > 0,
    ]),
    links: JSON.stringify(neighbours.map(({ nodeId, rttMs }) => [nodeId, Math.round(Math.log2(Math.max(2, rttMs)))])),
  }
}

function coarseServing(serving: Serving): Serving {
  return {
    ...serving,
    decodeMs: coarse(serving.decodeMs),
    prefillMs: coarse(serving.prefillMs),
    // Never more than there is.
    freeKvTokens: Math.floor(coarse(serving.freeKvTokens, Math.floor)),
  }
}

/** Four steps an octave: what has not changed by a fifth is told as the same. */
function coarse(value: number, round: (x: number) => number = Math.round): number {
  return value > 0 ? 2 ** (round(Math.log2(value) * 4) / 4) : 0
}
