import type { PeerInfo } from '@libp2p/interface'
import { type KadDHT, type KadDHTComponents, kadDHT } from '@libp2p/kad-dht'
import { fromUtf8, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { decodeAddress } from './address.ts'
import { DhtStore, type DhtStoreLimits } from './dht-store.ts'
import { networkTag } from './network.ts'
import { isLocalAddr } from './peer-addrs.ts'

/** Takes or refuses (by throwing) a contact record that came under an address key. */
export type RecordCheck = (addressKey: Uint8Array, value: Uint8Array) => void

export interface DhtServiceOptions {
  /** VER: each network has a DHT of its own. */
  readonly network: string
  /** `lan`: addresses of the local network, every node serves. `wan`: public ones, only public nodes serve. */
  readonly reach: 'lan' | 'wan'
  /** Until a check is there every record is refused. */
  readonly check: RecordCheck
  readonly nowMs: () => number
  /** Keeps records and providers across restarts: a bootstrap node, which everybody asks first. */
  readonly keep?: boolean
  /** Default: p2pLimits. */
  readonly limits?: DhtStoreLimits
}

export interface DhtService {
  readonly factory: (components: KadDHTComponents) => KadDHT
  readonly store: DhtStore
}

const RECORD_NAMESPACE = '/llm/'
/** swarm.md §1: provider lists are not filtered by age, so entries must not live long. */
const REPROVIDE = { validity: 45 * 60_000, threshold: 30 * 60_000, interval: 10 * 60_000 }

/** One libp2p DHT with everything that strangers may do to it bounded: what they store, and how often they ask. */
export function createDhtService(options: DhtServiceOptions): DhtService {
  const { reach, check, nowMs } = options
  const store = new DhtStore(nowMs, options.limits)
  const prefix = `/dht-${reach}`
  const quotas = createMessageQuotas(nowMs)
  const isWanted = (addr: PeerInfo['multiaddrs'][number]) => isLocalAddr(addr) === (reach === 'lan')
  const build = kadDHT({
    protocol: dhtProtocol(options.network, reach),
    // WAN: libp2p serves as soon as it sees a public address of its own.
    ...(reach === 'lan' ? { clientMode: false } : {}),
    peerInfoMapper: (peer) => ({ ...peer, multiaddrs: peer.multiaddrs.filter(isWanted) }),
    validators: { llm: async (key, value) => validate(key, value, check), pk: refuseOther },
    selectors: { llm: (_key, records) => newest(records), pk: () => 0 },
    reprovide: REPROVIDE,
    allowQueryWithZeroPeers: true,
    logPrefix: `llm-node:dht:${reach}`,
    datastorePrefix: prefix,
    metricsPrefix: `llm_node_dht_${reach}`,
  })
  return {
    store,
    factory(components) {
      const own = {
        get: (target: KadDHTComponents, name: PropertyKey) =>
          name === 'datastore' ? store : Reflect.get(target, name),
      }
      const dht = build(new Proxy(components, own))
      if (options.keep === true) store.keepOn(components.datastore, prefix).catch(() => {})
      guardMessages(dht, quotas)
      return dht
    },
  }
}

export function dhtProtocol(network: string, reach: 'lan' | 'wan'): string {
  const tag = toHex(networkTag(network))
  return `/llm-node/${tag}${reach === 'lan' ? '/lan' : ''}/kad/1.0.0`
}

interface IncomingMessage {
  readonly type: string
  readonly key?: Uint8Array
  readonly record?: Uint8Array
  readonly providers?: readonly { readonly multiaddrs: readonly unknown[] }[]
}

/** What libp2p's DHT keeps inside: the one place through which every message of a stranger goes. */
interface MessageHandling {
  readonly rpc?: { handleMessage?: (from: { toString(): string }, message: IncomingMessage) => Promise<unknown> }
}

/** A validator sees key and value only; who sent them is known here (swarm.md §1). */
function guardMessages(dht: KadDHT, quotas: MessageQuotas): void {
  const { rpc } = dht as unknown as MessageHandling
  const handle = rpc?.handleMessage?.bind(rpc)
  // Without the guard there is no DHT: an update of libp2p must not open it silently.
  if (rpc === undefined || handle === undefined) throw new LlmNodeError('INTERNAL', 'The DHT cannot be guarded.')
  rpc.handleMessage = async (from, message) => {
    const { type, key, record, providers = [] } = message
    quotas.take(from.toString(), type)
    if ((key?.length ?? 0) > p2pLimits.dhtKeyBytes) throw refused('a key that is too long')
    if ((record?.length ?? 0) > p2pLimits.contactRecordBytes + p2pLimits.dhtKeyBytes) throw refused('a record too long')
    if (type === 'ADD_PROVIDER') {
      if (providers.length !== 1 || (providers[0]?.multiaddrs.length ?? 0) > p2pLimits.dhtProviderAddrs) {
        throw refused('providers that nobody is')
      }
    }
    return await handle(from, message)
  }
}

interface MessageQuotas {
  /** Throws when this sender has sent too many of this kind. */
  take(sender: string, type: string): void
}

function createMessageQuotas(nowMs: () => number): MessageQuotas {
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  return {
    take(sender, type) {
      const kind = type === 'PUT_VALUE' ? 'put' : type === 'ADD_PROVIDER' ? 'provide' : 'ask'
      const { burst, perMinute } = p2pLimits.dhtQuotas[kind]
      const name = `${kind} ${sender}`
      const now = nowMs()
      const bucket = buckets.get(name) ?? { tokens: burst, atMs: now }
      bucket.tokens = Math.min(burst, bucket.tokens + (Math.max(0, now - bucket.atMs) / 60_000) * perMinute)
      bucket.atMs = now
      // The sender longest unheard is forgotten first.
      buckets.delete(name)
      if (buckets.size >= p2pLimits.dhtSenders) buckets.delete(buckets.keys().next().value ?? '')
      buckets.set(name, bucket)
      if (bucket.tokens < 1) throw refused(`too many messages (${kind})`)
      bucket.tokens--
    },
  }
}

function validate(key: Uint8Array, value: Uint8Array, check: RecordCheck): void {
  if (value.length > p2pLimits.contactRecordBytes) throw refused('a record too long')
  check(addressKeyOf(key), value)
}

async function refuseOther(): Promise<void> {
  throw refused('another namespace')
}

/** Key `/llm/` and the 56 characters of the address. */
export function recordKeyText(address: string): string {
  return RECORD_NAMESPACE + address.replace(/\.llm$/, '')
}

function addressKeyOf(key: Uint8Array): Uint8Array {
  const text = fromUtf8(key)
  if (!text.startsWith(RECORD_NAMESPACE)) throw refused('another namespace')
  const body = text.slice(RECORD_NAMESPACE.length)
  if (!/^[a-z2-7]{56}$/.test(body)) throw refused('a key that is no address')
  return decodeAddress(`${body}.llm`)
}

/** version1 | flags1 | address key 32 | sequence8: of records that have passed the check. */
const SEQUENCE_AT = 34

function newest(records: readonly Uint8Array[]): number {
  const sequences = records.map((record) =>
    record.length < SEQUENCE_AT + 8
      ? 0
      : Number(new DataView(record.buffer, record.byteOffset).getBigUint64(SEQUENCE_AT)),
  )
  return Math.max(0, sequences.indexOf(Math.max(...sequences)))
}

function refused(what: string): LlmNodeError {
  return new LlmNodeError('PEER_REFUSED', `The DHT does not take ${what}.`)
}
