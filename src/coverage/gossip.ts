import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { shuffle } from '../base/random.ts'
import type { Timers } from '../base/timers.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import { networkTag } from '../p2p/network.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { AdvertEntry, AdvertTable } from './advert-table.ts'
import { EVERYBODY, isWithin, type Reach } from './crowd.ts'
import type { Feeds } from './feeds.ts'
import {
  type Change,
  type DigestLine,
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type GossipAnswer,
  type GossipItem,
  type GossipRequest,
} from './gossip-messages.ts'
import { createIntake, type Intake } from './intake.ts'
import { pausedFor } from './pace.ts'

export const ADVERTS_PROTOCOL = '/llm/adverts/1'
/** Changes that come together travel together; the more peers there are, the longer they wait for each other. */
const COLLECT = { minMs: 20, maxMs: 6_000, msPerPeer: 10 }
/** What nobody waits for (heartbeats, figures) travels with the next message, or after so long. */
const PATIENT_MS = 10_000
/** A digest round that fills its message is followed by another; a swarm at its cap takes eight. */
const MAX_ROUNDS = 10
/** A digest waits so long for the one before: two at once would fetch everything twice. */
const PATIENCE_MS = 2_000
/** A peer first heard of so lately is told with its contact record; afterwards who lacks it asks. */
const NEWCOMER_MS = 60_000
/** Newer heartbeats in one digest that show that somebody knows more than the feeders. */
const MANY_BEHIND = 16

export interface GossipDeps {
  readonly node: Pick<PeerNode, 'request' | 'handle'>
  readonly table: AdvertTable
  readonly feeds: Feeds
  readonly book: Pick<ContactBook, 'own' | 'get' | 'accept'>
  /** This node's own address key: what others say about it is not listened to. */
  readonly ownKey: Uint8Array
  readonly clock: Clock
  readonly timers: Timers
  /** In [0, 1). */
  readonly random: () => number
  readonly logger: Logger
  /** An advert under this node's own address has come: nothing is done with it here. */
  readonly onSelf?: ((item: GossipItem) => void) | undefined
  readonly onBroken?: ((peerId: string) => void) | undefined
  /** Something in the table or the book has changed. */
  readonly onChange: () => void
}

/** The exchange of adverts with the connected neighbours (swarm.md §2). */
export interface Gossip {
  readonly neighbours: ReadonlySet<string>
  join(peerId: string): void
  leave(peerId: string): void
  /** Tells neighbours who want to know, all of them when `everybody`. */
  spread(addressKey: Uint8Array, change: Change, options?: { except?: string; everybody?: boolean }): void
  /** Sends what waits now. Never rejects. */
  flush(): Promise<void>
  /** Compares digests with one neighbour and exchanges what is missing. Throws PEER_UNREACHABLE, PEER_REFUSED, … */
  sync(peerId: string): Promise<void>
  stop(): void
}

/** Registers `/llm/adverts/1`: before the node starts. */
export async function createGossip(network: string, deps: GossipDeps): Promise<Gossip> {
  const gossip = new Exchange(network, deps)
  await deps.node.handle(ADVERTS_PROTOCOL, { maxRequestBytes: coverageLimits.messageBytes }, (body, from) =>
    gossip.answer(body, from.remotePeer),
  )
  return gossip
}

/** What a neighbour is to be told: whole, or only that it can be had. */
interface Outgoing {
  readonly change: Change
  readonly offer: boolean
}

/** A heartbeat to pass on, and who told it. */
interface Beat {
  readonly entry: AdvertEntry
  readonly from: string
  readonly item: GossipItem
}

class Exchange implements Gossip {
  readonly neighbours = new Set<string>()
  readonly #deps: GossipDeps
  readonly #tag: Uint8Array
  readonly #ownKey: string
  readonly #intake: Intake
  /** For each neighbour: what to tell it, by hex address key. */
  readonly #outbox = new Map<string, Map<string, Outgoing>>()
  /** Heartbeats to pass on to all who asked for them, and from whom each came. */
  readonly #beats = new Map<AdvertEntry['id'], string>()
  /** Whom to tell first, until the next flush: changes that travel together go to the same few. */
  #order: readonly string[] | undefined
  /** Whom each neighbour wants to know of. */
  readonly #reaches = new Map<string, Reach>()
  #cancelTimer: (() => void) | undefined
  #flushMs = Number.POSITIVE_INFINITY
  #lastSync: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(network: string, deps: GossipDeps) {
    this.#deps = deps
    this.#tag = networkTag(network)
    this.#ownKey = toHex(deps.ownKey)
    this.#intake = createIntake({
      ...deps,
      onNews: (addressKey, change, from) => this.spread(addressKey, change, { except: from }),
      onBeat: (id, from) => {
        this.#beats.set(id, from)
        this.#flushWithin(PATIENT_MS)
      },
    })
  }

  join(peerId: string): void {
    this.neighbours.add(peerId)
    this.#order = undefined
    this.#deps.feeds.join(peerId)
  }

  leave(peerId: string): void {
    this.neighbours.delete(peerId)
    this.#order = undefined
    this.#deps.feeds.leave(peerId)
    this.#outbox.delete(peerId)
    this.#reaches.delete(peerId)
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer?.()
  }

  spread(addressKey: Uint8Array, change: Change, options: { except?: string; everybody?: boolean } = {}): void {
    const entry = this.#deps.table.get(addressKey)
    if (this.#stopped || entry === undefined) return
    const key = toHex(addressKey)
    const isOwn = key === this.#ownKey
    const nPeers = this.#deps.table.size
    const offer = change === 'advert' && !isOwn && this.#isLarge()
    for (const peerId of this.#receivers(entry, change, { ...options, isOwn })) {
      const box = this.#outbox.get(peerId) ?? new Map<string, Outgoing>()
      this.#outbox.set(peerId, box)
      // An advert carries the rest with it; a tombstone ends everything before.
      if (box.get(key)?.change !== 'advert' || change === 'tombstone') box.set(key, { change, offer })
    }
    const isPatient = change === 'heartbeat' || (change === 'advert' && !entry.isChange)
    const collectMs = pausedFor(COLLECT, nPeers)
    this.#flushWithin(isPatient ? PATIENT_MS : collectMs)
  }

  #flushWithin(ms: number): void {
    const dueMs = this.#nowMs() + ms
    if (dueMs >= this.#flushMs) return
    this.#cancelTimer?.()
    this.#flushMs = dueMs
    this.#cancelTimer = this.#deps.timers.after(ms, () => void this.flush())
  }

  /** Contact records of others go to those who are fed; the rest goes to a few. */
  #receivers(
    entry: AdvertEntry,
    change: Change,
    { except, everybody, isOwn }: { except?: string; everybody?: boolean; isOwn: boolean },
  ): string[] {
    const { feeds } = this.#deps
    this.#order ??= this.#newOrder()
    const others = this.#order.filter(
      (peerId) => peerId !== except && peerId !== entry.advert.peerId && this.#isFor(peerId, entry),
    )
    if (everybody) return others
    if (change === 'contact' && !isOwn) return others.filter((peerId) => feeds.isFed(peerId))
    return others.slice(0, this.#isLarge() ? coverageLimits.offeredTo : coverageLimits.pushedTo)
  }

  /** At random, those first who get a message anyway because they are fed. */
  #newOrder(): string[] {
    const { feeds, random } = this.#deps
    const shuffled = shuffle([...this.neighbours], random)
    const isFed = (peerId: string) => feeds.isFed(peerId)
    return [...shuffled.filter(isFed), ...shuffled.filter((peerId) => !isFed(peerId))]
  }

  #isLarge(): boolean {
    return this.#deps.table.size > coverageLimits.pushedWhole
  }

  #isFor(peerId: string, { advert }: AdvertEntry): boolean {
    return isWithin(advert, this.#reaches.get(peerId) ?? EVERYBODY)
  }

  async flush(): Promise<void> {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#flushMs = Number.POSITIVE_INFINITY
    this.#order = undefined
    const beats = this.#beatsNow()
    const messages = [...this.neighbours].map((peerId) => this.#newsFor(peerId, beats))
    this.#outbox.clear()
    this.#beats.clear()
    await Promise.all(
      messages.map(async ({ peerId, items, lines }) => {
        if (items.length + lines.length === 0) return
        try {
          await this.#sendNews(peerId, items, lines)
        } catch (error) {
          this.#deps.logger.debug({ peerId, err: error }, 'a neighbour did not take adverts')
        }
      }),
    )
  }

  #beatsNow(): Beat[] {
    const { table } = this.#deps
    const nowMs = this.#nowMs()
    return [...this.#beats].flatMap(([id, from]) => {
      const entry = table.byId(id)
      if (entry?.heartbeat === undefined) return []
      return { entry, from, item: { kind: 'heartbeat', ageMs: table.ageMs(entry, nowMs), bytes: entry.heartbeat } }
    })
  }

  #newsFor(
    peerId: string,
    beats: readonly Beat[],
  ): { readonly peerId: string; readonly items: GossipItem[]; readonly lines: DigestLine[] } {
    const { table, feeds } = this.#deps
    const items: GossipItem[] = []
    const lines: DigestLine[] = []
    for (const [key, { change, offer }] of this.#outbox.get(peerId) ?? []) {
      const entry = table.get(Buffer.from(key, 'hex'))
      if (entry === undefined) continue
      if (offer && entry.tombstone === undefined) lines.push(lineOf(entry))
      else items.push(...this.#itemsOf(entry, change))
    }
    if (!feeds.isFed(peerId)) return { peerId, items, lines }
    for (const { entry, from, item } of beats) {
      if (from !== peerId && entry.advert.peerId !== peerId && this.#isFor(peerId, entry)) items.push(item)
    }
    return { peerId, items, lines }
  }

  sync(peerId: string): Promise<void> {
    const { timers } = this.#deps
    const before = this.#lastSync
    const run = async (): Promise<void> => {
      await Promise.race([before, new Promise<void>((resolve) => timers.after(PATIENCE_MS, resolve))])
      await this.#compareWith(peerId)
    }
    const result = run()
    this.#lastSync = result.catch(() => {})
    return result
  }

  async #compareWith(peerId: string): Promise<void> {
    const { table, feeds } = this.#deps
    for (let round = 0; round < MAX_ROUNDS && !this.#stopped; round++) {
      const lines = table.live(this.#nowMs()).flatMap((entry) => (this.#isFor(peerId, entry) ? lineOf(entry) : []))
      const answer = await this.#ask(peerId, { op: 'digest', wish: this.#wish(peerId), reach: table.reach, lines })
      const { heartbeats, adverts } = await this.#intake.take(answer.items, peerId)
      // Those of adverts that have just come show nothing.
      if (heartbeats - adverts >= MANY_BEHIND) feeds.prefer(peerId)
      await this.#sendWanted(peerId, answer.wants, answer.lacks)
      if (answer.items.length < coverageLimits.messageItems - 2) return
    }
  }

  /** Answers a neighbour's request. Throws, which resets the stream, on anything that is not well-formed. */
  async answer(body: Uint8Array, from: string): Promise<Uint8Array> {
    const { table, feeds } = this.#deps
    const request = decodeRequest(body, this.#tag)
    feeds.noteWish(from, request.wish)
    const said = { wish: this.#wish(from), reach: table.reach }
    if (request.op === 'digest') {
      this.#noteReach(from, request.reach)
      return encodeAnswer({ ...said, ...this.#compare(request.lines, from) })
    }
    const { wants, lacks } = await this.#intake.take(request.items, from)
    return encodeAnswer({ ...said, items: [], wants: [...wants, ...this.#intake.missing(request.lines)], lacks })
  }

  /** What the other side lacks, and what it has that is missing here. */
  #compare(lines: readonly DigestLine[], from: string): Pick<GossipAnswer, 'items' | 'wants' | 'lacks'> {
    const { table } = this.#deps
    const theirs = new Map(lines.map((line) => [line.advertId, line.index]))
    const items: GossipItem[] = []
    for (const { advertId } of lines) {
      const tombstone = table.byId(advertId)?.tombstone
      if (tombstone !== undefined) items.push({ kind: 'tombstone', ageMs: 0, bytes: tombstone })
    }
    // It asks, and has said good-bye: another node with its keys has.
    const farewells = table.all().flatMap(({ advert, tombstone }) => (advert.peerId === from ? (tombstone ?? []) : []))
    for (const bytes of farewells) items.push({ kind: 'tombstone', ageMs: 0, bytes })
    for (const entry of table.live(this.#nowMs())) {
      if (items.length > coverageLimits.messageItems - 3) break
      const index = theirs.get(entry.id)
      // Its own one only when it does not know it: then somebody else has signed with its key.
      if (entry.advert.peerId === from && index !== undefined) continue
      if (index === undefined && this.#isFor(from, entry)) items.push(...this.#itemsOf(entry, 'advert', true))
      else if (index !== undefined && index < entry.index) items.push(...this.#itemsOf(entry, 'heartbeat'))
    }
    return { items: items.slice(0, coverageLimits.messageItems), wants: this.#intake.missing(lines), lacks: [] }
  }

  #itemsOf(entry: AdvertEntry, change: Change, withContact = false): GossipItem[] {
    const { table, book } = this.#deps
    if (entry.tombstone !== undefined) return [{ kind: 'tombstone', ageMs: 0, bytes: entry.tombstone }]
    const nowMs = this.#nowMs()
    const ageMs = table.ageMs(entry, nowMs)
    const { addressKey } = entry.advert
    const items: GossipItem[] = []
    if (change === 'advert') items.push({ kind: 'advert', ageMs, bytes: entry.bytes })
    if (change !== 'contact' && entry.heartbeat !== undefined) {
      items.push({ kind: 'heartbeat', ageMs, bytes: entry.heartbeat })
    }
    const isNewcomer = nowMs - entry.sinceMs < NEWCOMER_MS
    if (change === 'contact' || (change === 'advert' && (withContact || isNewcomer))) {
      const contact = toHex(addressKey) === this.#ownKey ? book.own() : book.get(addressKey)
      if (contact !== undefined) items.push({ kind: 'contact', ageMs: 0, bytes: contact.bytes })
    }
    return items
  }

  async #sendNews(peerId: string, items: readonly GossipItem[], lines: readonly DigestLine[]): Promise<void> {
    for (let offset = 0; offset === 0 || offset < items.length; offset += coverageLimits.messageItems) {
      const part = items.slice(offset, offset + coverageLimits.messageItems)
      const news = { op: 'news' as const, wish: this.#wish(peerId), items: part, lines: offset === 0 ? lines : [] }
      const answer = await this.#ask(peerId, news)
      await this.#sendWanted(peerId, answer.wants, answer.lacks)
    }
  }

  /** What a neighbour would like. It may ask twice: a peer that always wants more gets nothing out of it. */
  async #sendWanted(peerId: string, wants: readonly string[], lacks: readonly string[], again = true): Promise<void> {
    const items = [...wants, ...lacks].flatMap((id, i) => {
      const entry = this.#deps.table.byId(id)
      return entry === undefined ? [] : this.#itemsOf(entry, i < wants.length ? 'advert' : 'contact')
    })
    for (let offset = 0; offset < items.length; offset += coverageLimits.messageItems) {
      const part = items.slice(offset, offset + coverageLimits.messageItems)
      const answer = await this.#ask(peerId, { op: 'news', wish: this.#wish(peerId), items: part, lines: [] })
      if (again) await this.#sendWanted(peerId, answer.wants, answer.lacks, false)
    }
  }

  async #ask(peerId: string, request: GossipRequest): Promise<GossipAnswer> {
    const maxResponseBytes = coverageLimits.messageBytes
    const { node, feeds } = this.#deps
    const body = encodeRequest(this.#tag, request)
    const answer = decodeAnswer(await node.request({ peerId, addrs: [] }, ADVERTS_PROTOCOL, body, { maxResponseBytes }))
    feeds.noteWish(peerId, answer.wish)
    this.#noteReach(peerId, answer.reach)
    return answer
  }

  #wish(peerId: string): boolean {
    return this.#deps.feeds.wants(peerId)
  }

  #noteReach(peerId: string, reach: Reach): void {
    if (this.neighbours.has(peerId)) this.#reaches.set(peerId, reach)
  }

  #nowMs(): number {
    return this.#deps.clock.monotonicMs()
  }
}

function lineOf({ id, index }: AdvertEntry): DigestLine {
  return { advertId: id, index }
}
