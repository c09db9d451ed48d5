import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { type ContactRecord, encodeContactRecord, verifyContactRecord } from './contact-record.ts'
import { type Contradiction, type Contradictions, contradictionSchema, createContradictions } from './contradictions.ts'
import { type Dht, untilTaken } from './dht.ts'
import type { Identity } from './identity.ts'
import type { PeerNode } from './peer-node.ts'
import { createSeenRecords, type SeenRecords, type SeenVerdict, seenEntrySchema } from './seen-records.ts'
import { createSequenceCounter, type SequenceCounter } from './sequence.ts'
import { throwIfAborted } from './streams.ts'

export const RECORDS_PROTOCOL = '/llm/records/1'
/** swarm.md §2: valid for 3 h, republished every 60–120 min. */
const LIFETIME_MS = 3 * 3_600_000
const REPUBLISH_MS = { min: 3_600_000, spread: 3_600_000 }

export interface StoredContact {
  readonly record: ContactRecord
  readonly bytes: Uint8Array
}

/** Where `.llm` addresses are reachable: this node's own record and those of others. */
export interface ContactBook {
  /** This node's current record; undefined before start. */
  own(): StoredContact | undefined
  /** A valid, current record, or undefined. */
  get(addressKey: Uint8Array): StoredContact | undefined
  /** Takes a record from anybody; only a new one replaces what is held. Throws BAD_RECORD when it is not valid. */
  accept(bytes: Uint8Array): SeenVerdict
  /**
   * A record of this address: the one at hand, or from the peers `ask` (PeerIds; default: all connected ones).
   * Throws PEER_UNREACHABLE when nobody has one, ABORTED.
   */
  find(addressKey: Uint8Array, options: { signal: AbortSignal; ask?: readonly string[] }): Promise<StoredContact>
  /** Issues the own record again with the node's present addresses and onion key. */
  publish(): Promise<StoredContact>
  /** The own record was issued again. */
  onPublished(handler: (own: StoredContact) => void): void
  /** Addresses that have signed two different records with one number, by hex key, with the proof. */
  readonly contradictions: ReadonlyMap<string, Contradiction>
  /** After the peer node's start. */
  start(): Promise<void>
  stop(): Promise<void>
}

export interface ContactBookDeps {
  readonly identity: Pick<Identity, 'addressKey' | 'sign' | 'peerId' | 'onionKeys' | 'rotateOnionKey'>
  readonly node: Pick<PeerNode, 'self' | 'handle' | 'request' | 'connections' | 'onAddrs'> & {
    readonly dht?: Dht | undefined
  }
  readonly clock: Clock
  readonly logger: Logger
  /** This address has just signed a second truth. */
  readonly onContradiction?: ((addressKey: Uint8Array) => void) | undefined
}

/** Registers `/llm/records/1`: create it before the peer node starts. `folder` keeps numbers seen and used. */
export async function createContactBook(
  options: { network: string; folder?: string },
  deps: ContactBookDeps,
): Promise<ContactBook> {
  const { node, clock } = deps
  const file = (name: string) => (options.folder === undefined ? undefined : join(options.folder, name))
  const store = createStore(options.network, await loadSeen(file('seen-records.json')), deps)
  const publisher = createPublisher(options.network, await createSequenceCounter(file('contact-sequence.json')), deps)
  await node.handle(RECORDS_PROTOCOL, { maxRequestBytes: 32 }, (key) => {
    if (key.length !== 32) throw new LlmNodeError('BAD_INPUT', 'A record is asked for by its address key.')
    const own = publisher.own()
    const held = own !== undefined && toHex(own.record.addressKey) === toHex(key) ? own : store.get(key)
    return held?.bytes ?? new Uint8Array(0)
  })
  const stopping = new AbortController()
  const { dht } = node
  dht?.onRecord((addressKey, bytes) => acceptUnder(store, addressKey, bytes))
  publisher.onPublished(({ bytes }) => {
    if (dht === undefined) return
    const { signal } = stopping
    void untilTaken(() => dht.put(deps.identity.addressKey, bytes, { signal }), signal)
  })
  const save = async (): Promise<void> => {
    const path = file('seen-records.json')
    const { seen, proofs } = store
    for (const list of [seen, proofs]) list.expire(clock.nowMs())
    const text = JSON.stringify({ entries: seen.dump(), contradictions: proofs.dump() })
    if (path !== undefined) await writeFileAtomic(path, text, 0o600)
  }
  const saver = setInterval(() => save().catch((err) => deps.logger.warn({ err }, 'seen records not saved')), 60_000)
  saver.unref()
  return {
    own: publisher.own,
    get: store.get,
    accept: store.accept,
    contradictions: store.proofs.all,
    find: (addressKey, { signal, ask }) => findContact(addressKey, { signal, ask, store, node }),
    publish: publisher.publish,
    onPublished: publisher.onPublished,
    start: publisher.start,
    async stop() {
      clearInterval(saver)
      stopping.abort()
      publisher.stop()
      await save()
    },
  }
}

/** What is kept across restarts. */
interface Kept {
  readonly seen: SeenRecords
  readonly proofs: Contradictions
}

interface Store extends Pick<ContactBook, 'get' | 'accept'>, Kept {}

function createStore(
  network: string,
  { seen, proofs }: Kept,
  { clock, logger, onContradiction }: Pick<ContactBookDeps, 'clock' | 'logger' | 'onContradiction'>,
): Store {
  const held = new Map<string, StoredContact>()
  const contradicted = ({ addressKey, sequence }: ContactRecord, bytes: Uint8Array): void => {
    const key = toHex(addressKey)
    const first = held.get(key)
    const isThere = first?.record.sequence === sequence
    const found = { sequence, first: isThere ? first.bytes : null, second: new Uint8Array(bytes), atMs: clock.nowMs() }
    if (!proofs.add(key, found)) return
    logger.warn({ addressKey: key, sequence }, 'an address has signed two records with one number')
    onContradiction?.(addressKey)
  }
  return {
    seen,
    proofs,
    get(addressKey) {
      const contact = held.get(toHex(addressKey))
      if (contact === undefined) return undefined
      if (contact.record.expiresMs + p2pLimits.clockSkewMs > clock.nowMs()) return contact
      held.delete(toHex(addressKey))
      return undefined
    },
    accept(bytes) {
      const key = peekKey(bytes)
      // The usual repetition costs a comparison, not a signature check.
      if (key !== undefined && isSame(held.get(key)?.bytes, bytes)) return 'same'
      const record = verifyContactRecord(bytes, { network, nowMs: clock.nowMs() })
      const hex = toHex(record.addressKey)
      const verdict = seen.compare(record.addressKey, record.sequence, bytes)
      if (verdict === 'conflict') contradicted(record, bytes)
      if (verdict === 'old' || verdict === 'conflict') return verdict
      if (!held.has(hex) && held.size >= p2pLimits.contactRecords) held.delete(held.keys().next().value ?? '')
      held.delete(hex)
      held.set(hex, { record, bytes: new Uint8Array(bytes) })
      if (verdict === 'new') {
        const forgetMs = record.expiresMs + p2pLimits.contactLifetimeMs
        seen.remember({ addressKey: record.addressKey, sequence: record.sequence, bytes, forgetMs })
      }
      return verdict
    },
  }
}

/** A record from the DHT: its key must be that of its address, and it must not take anybody back. Throws BAD_RECORD. */
function acceptUnder(store: Store, addressKey: Uint8Array, bytes: Uint8Array): void {
  if (peekKey(bytes) !== toHex(addressKey)) {
    throw new LlmNodeError('BAD_RECORD', 'The contact record belongs to another address.')
  }
  const verdict = store.accept(bytes)
  if (verdict !== 'new' && verdict !== 'same') {
    throw new LlmNodeError('BAD_RECORD', `The contact record is refused (${verdict}).`)
  }
}

/** version1 | flags1 | address key 32 */
function peekKey(bytes: Uint8Array): string | undefined {
  return bytes.length >= 34 ? toHex(bytes.subarray(2, 34)) : undefined
}

function isSame(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && Buffer.compare(a, b) === 0
}

interface Publisher extends Pick<ContactBook, 'own' | 'publish' | 'onPublished' | 'start'> {
  stop(): void
}

function createPublisher(network: string, sequence: SequenceCounter, deps: ContactBookDeps): Publisher {
  const { identity, node, clock, logger } = deps
  const handlers: ((own: StoredContact) => void)[] = []
  let own: StoredContact | undefined
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  let running = false

  const publish = async (): Promise<StoredContact> => {
    await identity.rotateOnionKey(clock.nowMs())
    const nowMs = clock.nowMs()
    const [onion] = identity.onionKeys(nowMs)
    const record: ContactRecord = {
      flags: 0,
      addressKey: identity.addressKey,
      sequence: await sequence.next(nowMs),
      issuedMs: nowMs,
      expiresMs: nowMs + LIFETIME_MS,
      onionKey: onion.publicKey,
      onionKeyEndsMs: onion.endsMs,
      peerId: identity.peerId,
      addrs: [...node.self.addrs()],
      familyKeys: [],
    }
    const bytes = encodeContactRecord(record, { network, sign: identity.sign })
    const published = { record, bytes }
    own = published
    for (const handler of handlers) handler(published)
    return published
  }
  const publishAndRepeat = (): void => {
    publish().catch((err) => logger.warn({ err }, 'the contact record could not be issued'))
    repeat()
  }
  const repeat = (): void => {
    clearTimeout(timer)
    if (stopped) return
    timer = setTimeout(publishAndRepeat, REPUBLISH_MS.min + Math.random() * REPUBLISH_MS.spread)
    timer.unref()
  }
  node.onAddrs(() => {
    if (!running || stopped || own === undefined) return
    if (own.record.addrs.join() !== node.self.addrs().join()) publishAndRepeat()
  })
  return {
    own: () => own,
    publish,
    onPublished: (handler) => handlers.push(handler),
    async start() {
      if (running) return
      running = true
      await publish()
      repeat()
    },
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}

async function findContact(
  addressKey: Uint8Array,
  from: {
    signal: AbortSignal
    ask: readonly string[] | undefined
    store: Store
    node: ContactBookDeps['node']
  },
): Promise<StoredContact> {
  const { signal, store, node } = from
  const known = store.get(addressKey)
  if (known !== undefined) return known
  const peers = from.ask ?? [...new Set(node.connections().map((connection) => connection.peerId))]
  const answers = peers.slice(0, p2pLimits.askedForRecord).map(async (peerId) => {
    const maxResponseBytes = p2pLimits.contactRecordBytes
    const bytes = await node.request({ peerId, addrs: [] }, RECORDS_PROTOCOL, addressKey, { signal, maxResponseBytes })
    if (bytes.length > 0) store.accept(bytes)
    const found = store.get(addressKey)
    if (found === undefined) throw new LlmNodeError('PEER_REFUSED', `${peerId} has no record of this address.`)
    return found
  })
  try {
    return await Promise.any(answers)
  } catch (cause) {
    throwIfAborted(signal)
    await node.dht?.find(addressKey, { signal, enough: () => store.get(addressKey) !== undefined })
    const found = store.get(addressKey)
    if (found !== undefined) return found
    throwIfAborted(signal)
    throw new LlmNodeError('PEER_UNREACHABLE', 'Nobody who is connected knows where this .llm address is.', {
      hint: 'Its node may be off. If you know where it runs, add the place: llm://ADDRESS?a=MULTIADDR.',
      cause,
    })
  }
}

const fileSchema = z.object({
  entries: z.array(seenEntrySchema).max(p2pLimits.seenRecords),
  contradictions: z.array(contradictionSchema).max(p2pLimits.contradictions).default([]),
})

async function loadSeen(path: string | undefined): Promise<Kept> {
  try {
    const text = path === undefined ? '{"entries":[]}' : await readFile(path, 'utf8')
    const { entries, contradictions } = fileSchema.parse(JSON.parse(text))
    return { seen: createSeenRecords(entries), proofs: createContradictions(contradictions) }
  } catch {
    // Missing or damaged: what was seen is learnt again, record by record.
    return { seen: createSeenRecords(), proofs: createContradictions() }
  }
}
