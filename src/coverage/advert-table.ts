import { equalBytes, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'
import { type Advert, advertIdOf, verifyAdvert, verifyTombstone } from './advert.ts'
import { EVERYBODY, estimatePeers, isWithin, positionOf, type Reach, reachOf } from './crowd.ts'
import { decodeHeartbeat, provesLife } from './heartbeat.ts'

/** A peer's newest advert with its last sign of life. */
export interface AdvertEntry {
  readonly advert: Advert
  readonly bytes: Uint8Array
  /** Hex. */
  readonly id: string
  /** Of the last heartbeat; 0: none yet. */
  readonly index: number
  /** The last heartbeat as it travels; undefined while there is none. */
  readonly heartbeat: Uint8Array | undefined
  /** The signed farewell; the peer is gone. */
  readonly tombstone: Uint8Array | undefined
  /** Monotonic ms at which this peer was first heard of. */
  readonly sinceMs: number
  /** The advert before said other layers or another state, or there was none: not only other figures. */
  readonly isChange: boolean
  /** Monotonic ms at which the peer gave its last sign of life. */
  readonly aliveMs: number
}

/** What an item told. `unknown`: a heartbeat of an advert that is not here: ask for it. */
export type Verdict = 'new' | 'known' | 'old' | 'unknown' | 'full'

/**
 * Newest adverts of all peers. Time is a parameter, monotonic ms. The highest (sequence, index) counts and is never taken
 * back: repeating an old sign of life with a smaller age makes nobody younger. Ages add up from holder to holder.
 */
export interface AdvertTable {
  /** These throw BAD_RECORD when the item is not valid. `ageMs`: of the sign of life, as the sender says. */
  addAdvert(bytes: Uint8Array, ageMs: number, nowMs: number): Verdict
  addHeartbeat(bytes: Uint8Array, ageMs: number, nowMs: number): Verdict
  addTombstone(bytes: Uint8Array, nowMs: number): Verdict
  /** Whatever it said, this peer does not answer: it counts again with its next sign of life. True when it was live. */
  doubt(addressKey: Uint8Array, nowMs: number): boolean
  /** The transport has just proven that the peer of this advert is there. True when it was silent before. */
  met(addressKey: Uint8Array, nowMs: number): boolean
  get(addressKey: Uint8Array): AdvertEntry | undefined
  byId(id: string): AdvertEntry | undefined
  isLive(entry: AdvertEntry, nowMs: number): boolean
  /** Ms since the last sign of life, the way here included. */
  ageMs(entry: AdvertEntry, nowMs: number): number
  live(nowMs: number): readonly AdvertEntry[]
  /** Every entry, also silent and gone ones. */
  all(): readonly AdvertEntry[]
  /** Forgets what has been silent for 15 min, and whom a crowd leaves no room for. True when a peer went silent. */
  expire(nowMs: number): boolean
  readonly size: number
  /** Whom this table has room for: everybody, or the nearest when there are too many. */
  readonly reach: Reach
  /** An advert with this id was left out for want of room. */
  isRefused(id: string): boolean
}

export interface AdvertTableOptions {
  readonly network: string
  readonly maxPeers?: number
  /** Live peers above which only the nearest are kept. */
  readonly crowd?: number
  /** Where this node stands among the others; default: anywhere. */
  readonly ownKey?: Uint8Array
  /** Directly connected peers are kept in any case. */
  readonly isNeighbour?: (peerId: string) => boolean
  /** Checks an advert: a simulation of many nodes does it once for all. Default: verifyAdvert. */
  readonly verify?: (bytes: Uint8Array, options: { network: string }) => Advert
}

interface Held extends AdvertEntry {
  readonly link: Uint8Array
  /** The address key in hex. */
  readonly key: string
  readonly noticedSilence: boolean
}

export function createAdvertTable(options: AdvertTableOptions): AdvertTable {
  return new Table(options)
}

/** How long an advert that found no room is not looked at again. */
const REFUSED_MS = 60_000

class Table implements AdvertTable {
  readonly #network: string
  readonly #maxPeers: number
  readonly #crowd: number
  readonly #ownKey: Uint8Array
  readonly #isNeighbour: (peerId: string) => boolean
  readonly #verify: typeof verifyAdvert
  readonly #byKey = new Map<string, Held>()
  readonly #keyById = new Map<string, string>()
  /** Ids of adverts that found no room; no more than could have been held. */
  readonly #refused = new Set<string>()
  #refusedMs = 0
  #reach = EVERYBODY

  constructor(options: AdvertTableOptions) {
    this.#network = options.network
    this.#maxPeers = options.maxPeers ?? coverageLimits.peers
    this.#crowd = options.crowd ?? coverageLimits.crowd
    this.#ownKey = options.ownKey ?? new Uint8Array(32)
    this.#isNeighbour = options.isNeighbour ?? (() => false)
    this.#verify = options.verify ?? verifyAdvert
  }

  get size(): number {
    return this.#byKey.size
  }

  get reach(): Reach {
    return this.#reach
  }

  isRefused(id: string): boolean {
    return this.#refused.has(id)
  }

  addAdvert(bytes: Uint8Array, ageMs: number, nowMs: number): Verdict {
    const id = toHex(advertIdOf(bytes))
    if (this.#keyById.has(id)) return 'known'
    if (ageMs >= coverageLimits.maxAgeMs) return 'old'
    if (this.#refused.has(id)) return 'full'
    const advert = this.#verify(bytes, { network: this.#network })
    const before = this.#held(advert.addressKey)
    if (before !== undefined && advert.sequence <= before.advert.sequence) return 'old'
    if (before === undefined) {
      const isRoom = this.#makeRoom(nowMs)
      if (!this.#isKept(advert)) return this.#refuse(id, nowMs)
      if (!isRoom) return 'full'
    }
    this.#put({
      key: toHex(advert.addressKey),
      advert,
      bytes: new Uint8Array(bytes),
      id,
      index: 0,
      heartbeat: undefined,
      tombstone: undefined,
      link: advert.chainEnd,
      aliveMs: nowMs - ageMs,
      noticedSilence: false,
      sinceMs: before?.sinceMs ?? nowMs,
      isChange: before === undefined || structureOf(before.advert) !== structureOf(advert),
    })
    return 'new'
  }

  addHeartbeat(bytes: Uint8Array, ageMs: number, nowMs: number): Verdict {
    const heartbeat = decodeHeartbeat(bytes)
    const entry = this.byId(toHex(heartbeat.advertId))
    if (entry === undefined) return 'unknown'
    if (entry.tombstone !== undefined || heartbeat.index <= entry.index) return 'known'
    if (ageMs >= coverageLimits.maxAgeMs) return 'old'
    if (!provesLife(entry.advert, entry, heartbeat)) {
      throw new LlmNodeError('BAD_RECORD', 'The heartbeat does not belong to its advert.')
    }
    const { index, link } = heartbeat
    this.#put({
      ...entry,
      index,
      link,
      heartbeat: new Uint8Array(bytes),
      aliveMs: nowMs - ageMs,
      noticedSilence: false,
    })
    return 'new'
  }

  addTombstone(bytes: Uint8Array, nowMs: number): Verdict {
    const entry = this.#held(bytes.subarray(1, 33))
    // Of a peer never heard of: nothing to end, and nothing to remember that a flood could fill.
    if (entry === undefined) return 'known'
    if (entry.tombstone !== undefined && equalBytes(entry.tombstone, bytes)) return 'known'
    const { sequence } = verifyTombstone(bytes, { network: this.#network })
    if (sequence <= entry.advert.sequence) return 'old'
    this.#put({ ...entry, advert: { ...entry.advert, sequence }, tombstone: new Uint8Array(bytes), aliveMs: nowMs })
    return 'new'
  }

  doubt(addressKey: Uint8Array, nowMs: number): boolean {
    const entry = this.#held(addressKey)
    if (entry === undefined || !this.isLive(entry, nowMs)) return false
    this.#put({ ...entry, aliveMs: nowMs - coverageLimits.maxAgeMs, noticedSilence: true })
    return true
  }

  met(addressKey: Uint8Array, nowMs: number): boolean {
    const entry = this.#held(addressKey)
    if (entry === undefined || entry.tombstone !== undefined) return false
    const wasLive = this.isLive(entry, nowMs)
    this.#put({ ...entry, aliveMs: nowMs, noticedSilence: false })
    return !wasLive
  }

  get(addressKey: Uint8Array): AdvertEntry | undefined {
    return this.#held(addressKey)
  }

  byId(id: string): Held | undefined {
    return this.#byKey.get(this.#keyById.get(id) ?? '')
  }

  isLive(entry: AdvertEntry, nowMs: number): boolean {
    return entry.tombstone === undefined && this.ageMs(entry, nowMs) < coverageLimits.maxAgeMs
  }

  ageMs(entry: AdvertEntry, nowMs: number): number {
    return nowMs - entry.aliveMs
  }

  live(nowMs: number): readonly AdvertEntry[] {
    return [...this.#byKey.values()].filter((entry) => this.isLive(entry, nowMs))
  }

  all(): readonly AdvertEntry[] {
    return [...this.#byKey.values()]
  }

  expire(nowMs: number): boolean {
    this.#thin(nowMs)
    let silenced = false
    for (const [key, entry] of this.#byKey) {
      if (nowMs - entry.aliveMs >= coverageLimits.rememberMs) this.#drop(key)
      else if (!this.isLive(entry, nowMs) && !entry.noticedSilence && entry.tombstone === undefined) {
        silenced = true
        this.#byKey.set(key, { ...entry, noticedSilence: true })
      }
    }
    return silenced
  }

  #held(addressKey: Uint8Array): Held | undefined {
    return this.#byKey.get(toHex(addressKey))
  }

  #put(entry: Held): void {
    const { key } = entry
    const before = this.#byKey.get(key)
    if (before !== undefined && before.id !== entry.id) this.#keyById.delete(before.id)
    this.#byKey.set(key, entry)
    this.#keyById.set(entry.id, key)
  }

  #drop(key: string): void {
    const entry = this.#byKey.get(key)
    if (entry !== undefined) this.#keyById.delete(entry.id)
    this.#byKey.delete(key)
  }

  /** Above the crowd's size the nearest of every group stay; far below it there is room for everybody again. */
  #thin(nowMs: number): void {
    // Those who are near change: who found no room may find it later.
    if (nowMs - this.#refusedMs >= REFUSED_MS) this.#refused.clear()
    const crowded = this.#reach.radii.size > 0
    if (!crowded && this.#byKey.size <= this.#crowd) return
    const live = this.live(nowMs).map(({ advert }) => advert)
    const known = live.filter(({ addressKey }) => !equalBytes(addressKey, this.#ownKey))
    const reach = reachOf(known, positionOf(this.#ownKey), this.#reach)
    if (crowded ? estimatePeers(known, reach) < 0.7 * this.#crowd : known.length <= this.#crowd) {
      this.#reach = EVERYBODY
      return
    }
    this.#reach = reach
    for (const [key, { advert, id }] of this.#byKey) {
      if (this.#isKept(advert)) continue
      this.#drop(key)
      // Neighbours that have not heard of the new reach still offer it.
      this.#refuse(id, nowMs)
    }
  }

  #makeRoom(nowMs: number): boolean {
    if (this.#byKey.size < this.#maxPeers) return true
    for (const [key, entry] of this.#byKey) {
      if (this.isLive(entry, nowMs)) continue
      this.#drop(key)
      return true
    }
    this.#thin(nowMs)
    return this.#byKey.size < this.#maxPeers
  }

  #isKept(advert: Advert): boolean {
    return (
      isWithin(advert, this.#reach) || this.#isNeighbour(advert.peerId) || equalBytes(advert.addressKey, this.#ownKey)
    )
  }

  #refuse(id: string, nowMs: number): Verdict {
    if (this.#refused.size === 0) this.#refusedMs = nowMs
    if (this.#refused.size >= this.#maxPeers) this.#refused.delete(this.#refused.values().next().value ?? '')
    this.#refused.add(id)
    return 'full'
  }
}

/** What others plan with, as one text: all but figures. */
function structureOf({ serving, relay, reachability }: Advert): string {
  const spans = serving.map(({ modelId, span, recipe, state }) => [toHex(modelId), span.start, span.end, recipe, state])
  return JSON.stringify([spans, relay, reachability])
}
