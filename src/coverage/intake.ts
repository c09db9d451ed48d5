import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { isLlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Timers } from '../base/timers.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import type { AdvertTable } from './advert-table.ts'
import type { Change, DigestLine, GossipItem } from './gossip-messages.ts'
import { createSenderQuotas } from './sender-quota.ts'

/** Signature checks between two turns of the event loop: ~10 ms. */
const CHECKS_PER_TURN = 8
/** What was asked of one neighbour is not asked of another for so long. */
const ASKED_MS = 5_000

/** A contact record that comes so long after its advert is news of its own. */
const LATE_MS = 10_000

/** What came of items. Ids are hex. */
export interface Taken {
  /** News: heartbeats, and adverts. */
  readonly heartbeats: number
  readonly adverts: number
  /** Adverts to ask for. */
  readonly wants: readonly string[]
  /** Adverts that came without a contact record, and there is none. */
  readonly lacks: readonly string[]
}

/** What neighbours tell goes in here: checked, counted, and told on when it is news. */
export interface Intake {
  /** Contact records last: they count only for peers with an advert. */
  take(items: readonly GossipItem[], from: string): Promise<Taken>
  /** Whose adverts, or newer heartbeats, to ask for; nobody else has been asked for them just now. */
  missing(lines: readonly DigestLine[]): string[]
}

export interface IntakeDeps {
  readonly table: AdvertTable
  readonly book: Pick<ContactBook, 'get' | 'accept'>
  /** This node's own address key: what others say about it is not listened to. */
  readonly ownKey: Uint8Array
  readonly clock: Clock
  readonly timers: Timers
  readonly logger: Logger
  readonly onSelf?: ((item: GossipItem) => void) | undefined
  readonly onChange: () => void
  /** This PeerId has told something that no honest program tells. */
  readonly onBroken?: ((peerId: string) => void) | undefined
  /** To tell on. */
  readonly onNews: (addressKey: Uint8Array, change: Change, from: string) => void
  /** A heartbeat of the advert with this id. */
  readonly onBeat: (advertId: string, from: string) => void
}

export function createIntake(deps: IntakeDeps): Intake {
  return new Checked(deps)
}

class Checked implements Intake {
  readonly #deps: IntakeDeps
  readonly #ownKey: string
  readonly #quotas = createSenderQuotas()
  /** Until when an advert is on its way here, by id. */
  readonly #asked = new Map<string, number>()

  constructor(deps: IntakeDeps) {
    this.#deps = deps
    this.#ownKey = toHex(deps.ownKey)
  }

  async take(items: readonly GossipItem[], from: string): Promise<Taken> {
    const { table, book, timers, logger, onChange } = this.#deps
    const granted = this.#quotas.take(from, items.length, this.#nowMs())
    const sorted = items.slice(0, granted).sort((a, b) => Number(a.kind === 'contact') - Number(b.kind === 'contact'))
    const wants: string[] = []
    const adverts: Uint8Array[] = []
    let [heartbeats, changed] = [0, false]
    for (const [index, item] of sorted.entries()) {
      if (index % CHECKS_PER_TURN === CHECKS_PER_TURN - 1) await new Promise<void>((next) => timers.after(0, next))
      try {
        if (!this.#takeItem(item, from, wants)) continue
        changed = true
        if (item.kind === 'heartbeat') heartbeats++
        if (item.kind === 'advert') adverts.push(keyOf(item))
      } catch (error) {
        if (!isLlmNodeError(error, 'BAD_RECORD')) throw error
        logger.debug({ peerId: from, kind: item.kind, err: error }, 'a neighbour told something wrong')
        if (error.meta.clock === true) continue
        this.#quotas.reportBad(from, this.#nowMs())
        this.#deps.onBroken?.(from)
      }
    }
    if (changed) onChange()
    const lacks = adverts.flatMap((key) => (book.get(key) === undefined ? (table.get(key)?.id ?? []) : []))
    return { heartbeats, adverts: adverts.length, wants, lacks }
  }

  missing(lines: readonly DigestLine[]): string[] {
    const { table } = this.#deps
    return lines.flatMap(({ advertId, index }) => {
      const entry = table.byId(advertId)
      const isNews = entry === undefined ? !table.isRefused(advertId) : !entry.tombstone && entry.index < index
      return isNews && this.#askFor(advertId) ? advertId : []
    })
  }

  /** True when nobody else has been asked for it just now. */
  #askFor(advertId: string): boolean {
    const nowMs = this.#nowMs()
    if ((this.#asked.get(advertId) ?? 0) > nowMs) return false
    if (this.#asked.size >= coverageLimits.peers) this.#asked.clear()
    this.#asked.set(advertId, nowMs + ASKED_MS)
    return true
  }

  /** True when it was news. Throws BAD_RECORD. */
  #takeItem(item: GossipItem, from: string, wants: string[]): boolean {
    if (item.kind === 'heartbeat') return this.#takeHeartbeat(item, from, wants)
    const { table, onSelf, onNews } = this.#deps
    const key = keyOf(item)
    if (toHex(key) === this.#ownKey) {
      onSelf?.(item)
      return false
    }
    if (item.kind === 'contact') return this.#takeContact(key, item.bytes, from)
    const verdict =
      item.kind === 'advert'
        ? table.addAdvert(item.bytes, item.ageMs, this.#nowMs())
        : table.addTombstone(item.bytes, this.#nowMs())
    if (verdict !== 'new') return false
    onNews(key, item.kind, from)
    return true
  }

  /** Only of peers with an advert. Told on when it replaces another; a first one goes with the advert. */
  #takeContact(key: Uint8Array, bytes: Uint8Array, from: string): boolean {
    const { table, book, onNews } = this.#deps
    const entry = table.get(key)
    if (entry === undefined) return false
    const isUpdate = book.get(key) !== undefined || this.#nowMs() - entry.sinceMs > LATE_MS
    if (book.accept(bytes) !== 'new') return false
    if (isUpdate) onNews(key, 'contact', from)
    return true
  }

  #takeHeartbeat({ ageMs, bytes }: GossipItem, from: string, wants: string[]): boolean {
    const { table, onBeat } = this.#deps
    const verdict = table.addHeartbeat(bytes, ageMs, this.#nowMs())
    const id = toHex(bytes.subarray(0, 8))
    if (verdict === 'unknown' && ageMs < coverageLimits.maxAgeMs) {
      wants.push(...this.missing([{ advertId: id, index: 0 }]))
    }
    const entry = table.byId(id)
    if (verdict !== 'new' || entry === undefined) return false
    onBeat(id, from)
    return true
  }

  #nowMs(): number {
    return this.#deps.clock.monotonicMs()
  }
}

/** version1 | flags1 | key32 in adverts and contact records, version1 | key32 in tombstones */
function keyOf({ kind, bytes }: GossipItem): Uint8Array {
  return kind === 'tombstone' ? bytes.slice(1, 33) : bytes.slice(2, 34)
}
