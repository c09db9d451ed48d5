import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { isLlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import { networkTag } from '../p2p/network.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { AdvertTable } from './advert-table.ts'
import {
  type DigestLine,
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type GossipAnswer,
  type GossipItem,
} from './gossip-messages.ts'
import { createSenderQuotas } from './sender-quota.ts'

export const ADVERTS_PROTOCOL = '/llm/adverts/1'
/** Changes that come together travel together. */
const COLLECT_MS = 20
/** A digest round that fills its message is followed by another; a swarm at its cap takes three. */
const MAX_ROUNDS = 8
/** Signature checks between two turns of the event loop: ~10 ms. */
const CHECKS_PER_TURN = 8

/** What of a peer has changed: an advert goes out with its contact record and its last heartbeat. */
export type Change = 'advert' | 'heartbeat' | 'tombstone' | 'contact'

export interface GossipDeps {
  readonly node: Pick<PeerNode, 'self' | 'request' | 'handle'>
  readonly table: AdvertTable
  readonly book: Pick<ContactBook, 'own' | 'get' | 'accept'>
  /** This node's own address key: what others say about it is not listened to. */
  readonly ownKey: Uint8Array
  readonly clock: Clock
  readonly logger: Logger
  /** An advert under this node's own address has come: nothing is done with it here. */
  readonly onSelf?: (bytes: Uint8Array) => void
  /** Something in the table or the book has changed. */
  readonly onChange: () => void
}

/** The exchange of adverts with the connected neighbours (swarm.md §2). */
export interface Gossip {
  readonly neighbours: ReadonlySet<string>
  join(peerId: string): void
  leave(peerId: string): void
  /** Tells up to 6 random neighbours, all of them when `everybody`. */
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

class Exchange implements Gossip {
  readonly neighbours = new Set<string>()
  readonly #deps: GossipDeps
  readonly #tag: Uint8Array
  readonly #ownKey: string
  readonly #quotas = createSenderQuotas()
  /** For each neighbour: what to tell it, by hex address key. */
  readonly #outbox = new Map<string, Map<string, Change>>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(network: string, deps: GossipDeps) {
    this.#deps = deps
    this.#tag = networkTag(network)
    this.#ownKey = toHex(deps.ownKey)
  }

  join(peerId: string): void {
    this.neighbours.add(peerId)
  }

  leave(peerId: string): void {
    this.neighbours.delete(peerId)
    this.#outbox.delete(peerId)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  spread(addressKey: Uint8Array, change: Change, options: { except?: string; everybody?: boolean } = {}): void {
    if (this.#stopped) return
    const subject = this.#deps.table.get(addressKey)?.advert.peerId
    const others = [...this.neighbours].filter((peerId) => peerId !== options.except && peerId !== subject)
    const chosen = options.everybody ? others : pickRandom(others, coverageLimits.pushedTo)
    for (const peerId of chosen) {
      const box = this.#outbox.get(peerId) ?? new Map<string, Change>()
      this.#outbox.set(peerId, box)
      const key = toHex(addressKey)
      const before = box.get(key)
      // An advert carries the rest with it; a tombstone ends everything before.
      if (before !== 'advert' || change === 'tombstone') box.set(key, change)
    }
    this.#timer ??= setTimeout(() => void this.flush(), COLLECT_MS)
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const boxes = [...this.#outbox]
    this.#outbox.clear()
    await Promise.all(
      boxes.map(async ([peerId, box]) => {
        const items = [...box].flatMap(([key, change]) => this.#itemsOf(Buffer.from(key, 'hex'), change))
        try {
          await this.#sendItems(peerId, items)
        } catch (error) {
          this.#deps.logger.debug({ peerId, err: error }, 'a neighbour did not take adverts')
        }
      }),
    )
  }

  async sync(peerId: string): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS && !this.#stopped; round++) {
      const live = this.#deps.table.live(this.#nowMs())
      const lines = live.map((entry): DigestLine => ({ advertId: entry.id, index: entry.index }))
      const answer = await this.#ask(peerId, encodeRequest(this.#tag, { op: 'digest', lines }))
      await this.#take(answer.items, peerId)
      await this.#sendItems(peerId, this.#wanted(answer.wants))
      if (answer.items.length < coverageLimits.messageItems - 2) return
    }
  }

  /** Answers a neighbour's request. Throws, which resets the stream, on anything that is not well-formed. */
  async answer(body: Uint8Array, from: string): Promise<Uint8Array> {
    const request = decodeRequest(body, this.#tag)
    if (request.op === 'digest') return encodeAnswer(this.#compare(request.lines, from))
    return encodeAnswer({ items: [], wants: await this.#take(request.items, from) })
  }

  /** What the other side lacks, and what it has that is missing here. */
  #compare(lines: readonly DigestLine[], from: string): GossipAnswer {
    const { table } = this.#deps
    const theirs = new Map(lines.map((line) => [line.advertId, line.index]))
    const items: GossipItem[] = []
    const wants: string[] = []
    for (const { advertId, index } of lines) {
      const entry = table.byId(advertId)
      if (entry === undefined) wants.push(advertId)
      else if (entry.tombstone !== undefined) items.push({ kind: 'tombstone', ageMs: 0, bytes: entry.tombstone })
      else if (entry.index < index) wants.push(advertId)
    }
    for (const entry of table.live(this.#nowMs())) {
      if (items.length > coverageLimits.messageItems - 3) break
      const index = theirs.get(entry.id)
      // Its own one only when it does not know it: then somebody else has signed with its key.
      if (entry.advert.peerId === from && index !== undefined) continue
      if (index === undefined) items.push(...this.#itemsOf(entry.advert.addressKey, 'advert'))
      else if (index < entry.index) items.push(...this.#itemsOf(entry.advert.addressKey, 'heartbeat'))
    }
    return { items: items.slice(0, coverageLimits.messageItems), wants }
  }

  #wanted(ids: readonly string[]): GossipItem[] {
    return ids.flatMap((id) => {
      const entry = this.#deps.table.byId(id)
      return entry === undefined ? [] : this.#itemsOf(entry.advert.addressKey, 'advert')
    })
  }

  #itemsOf(addressKey: Uint8Array, change: Change): GossipItem[] {
    const { table, book } = this.#deps
    const entry = table.get(addressKey)
    if (entry === undefined) return []
    if (entry.tombstone !== undefined) return [{ kind: 'tombstone', ageMs: 0, bytes: entry.tombstone }]
    const ageMs = table.ageMs(entry, this.#nowMs())
    const contact = toHex(addressKey) === this.#ownKey ? book.own() : book.get(addressKey)
    const items: GossipItem[] = []
    if (change === 'advert') items.push({ kind: 'advert', ageMs, bytes: entry.bytes })
    if (change !== 'contact' && entry.heartbeat !== undefined) {
      items.push({ kind: 'heartbeat', ageMs, bytes: entry.heartbeat })
    }
    if (change !== 'heartbeat' && contact !== undefined) items.push({ kind: 'contact', ageMs: 0, bytes: contact.bytes })
    return items
  }

  async #sendItems(peerId: string, items: readonly GossipItem[]): Promise<void> {
    for (let offset = 0; offset < items.length; offset += coverageLimits.messageItems) {
      const part = items.slice(offset, offset + coverageLimits.messageItems)
      const answer = await this.#ask(peerId, encodeRequest(this.#tag, { op: 'items', items: part }))
      // Asked for once: a peer that always wants more gets nothing out of it.
      const more = this.#wanted(answer.wants).slice(0, coverageLimits.messageItems)
      if (more.length > 0) await this.#ask(peerId, encodeRequest(this.#tag, { op: 'items', items: more }))
    }
  }

  async #ask(peerId: string, body: Uint8Array): Promise<GossipAnswer> {
    const maxResponseBytes = coverageLimits.messageBytes
    const target = { peerId, addrs: [] }
    return decodeAnswer(await this.#deps.node.request(target, ADVERTS_PROTOCOL, body, { maxResponseBytes }))
  }

  /** Takes items in, contact records last: they count only for peers with an advert. Returns the adverts to ask for. */
  async #take(items: readonly GossipItem[], from: string): Promise<string[]> {
    const granted = this.#quotas.take(from, items.length, this.#nowMs())
    const sorted = items.slice(0, granted).sort((a, b) => Number(a.kind === 'contact') - Number(b.kind === 'contact'))
    const wants: string[] = []
    let changed = false
    for (const [index, item] of sorted.entries()) {
      if (index % CHECKS_PER_TURN === CHECKS_PER_TURN - 1) await new Promise((resolve) => setImmediate(resolve))
      if (this.#stopped) break
      try {
        if (item.kind === 'contact') changed = this.#takeContact(item, from) || changed
        else changed = this.#takeAdvert(item, from, wants) || changed
      } catch (error) {
        if (!isLlmNodeError(error, 'BAD_RECORD')) throw error
        this.#deps.logger.debug({ peerId: from, kind: item.kind, err: error }, 'a neighbour told something wrong')
        // Times in contact records depend on clocks, which may be wrong here.
        if (item.kind !== 'contact') this.#quotas.reportBad(from, this.#nowMs())
      }
    }
    if (changed) this.#deps.onChange()
    return wants
  }

  #takeAdvert({ kind, ageMs, bytes }: GossipItem, from: string, wants: string[]): boolean {
    const { table } = this.#deps
    const nowMs = this.#nowMs()
    if (kind === 'heartbeat') {
      const verdict = table.addHeartbeat(bytes, ageMs, nowMs)
      const id = toHex(bytes.subarray(0, 8))
      if (verdict === 'unknown' && ageMs < coverageLimits.maxAgeMs) wants.push(id)
      const entry = table.byId(id)
      if (verdict !== 'new' || entry === undefined) return false
      this.spread(entry.advert.addressKey, 'heartbeat', { except: from })
      return true
    }
    // version1 | flags1 | key32 in adverts, version1 | key32 in tombstones
    const key = kind === 'advert' ? bytes.slice(2, 34) : bytes.slice(1, 33)
    if (toHex(key) === this.#ownKey) {
      if (kind === 'advert') this.#deps.onSelf?.(bytes)
      return false
    }
    const verdict = kind === 'advert' ? table.addAdvert(bytes, ageMs, nowMs) : table.addTombstone(bytes, nowMs)
    if (verdict !== 'new') return false
    this.spread(key, kind === 'advert' ? 'advert' : 'tombstone', { except: from })
    return true
  }

  #takeContact({ bytes }: GossipItem, from: string): boolean {
    const { table, book } = this.#deps
    const key = bytes.slice(2, 34)
    if (toHex(key) === this.#ownKey || table.get(key) === undefined) return false
    if (book.accept(bytes) !== 'new') return false
    this.spread(key, 'contact', { except: from })
    return true
  }

  #nowMs(): number {
    return this.#deps.clock.monotonicMs()
  }
}

function pickRandom<T>(values: readonly T[], count: number): T[] {
  const pool = [...values]
  const picked: T[] = []
  while (pool.length > 0 && picked.length < count) {
    const index = Math.floor(Math.random() * pool.length)
    picked.push(...pool.splice(index, 1))
  }
  return picked
}
