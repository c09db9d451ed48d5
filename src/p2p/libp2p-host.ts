import { autoNATv2 } from '@libp2p/autonat-v2'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import type { Connection, PeerInfo } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { uPnPNAT } from '@libp2p/upnp-nat'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2pOptions } from 'libp2p'
import { toHex, utf8 } from '../base/bytes.ts'
import { p2pLimits } from '../base/limits.ts'
import { reachabilityLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import type { Secret } from '../base/secret.ts'
import { createDhtService, type RecordCheck } from './dht-service.ts'
import type { DhtStore, DhtStoreLimits } from './dht-store.ts'
import { limitDial, limitReaching } from './dial-limits.ts'
import { holePunchService } from './hole-punch.ts'
import type { Host, Services } from './host.ts'
import type { Identity } from './identity.ts'
import { libp2pLogger } from './libp2p-logger.ts'
import type { Links } from './links.ts'
import { mdnsServiceTag } from './network.ts'
import { noteOnce } from './note-once.ts'
import type { OwnAddresses } from './own-addresses.ts'
import { compareDialAddrs, isOwnNetwork, type TransportName } from './peer-addrs.ts'
import { openPeerDatastore } from './peer-datastore.ts'
import { createRefusedDials } from './refused-dials.ts'
import type { RelayClient } from './relay-client.ts'
import { type RelayCapacity, relayServerService } from './relay-server.ts'
import type { ShutOut } from './shut-out.ts'
import { singleWrite } from './single-write.ts'

export interface HostOptions {
  readonly network: string
  readonly listen: readonly string[]
  readonly transports: readonly TransportName[]
  readonly mdns: boolean
  readonly mdnsIntervalMs: number
  readonly folder: string | undefined
  readonly version: string
  /** 32 bytes: a private network. Only over TCP, since libp2p lets QUIC past the gate (skipProtection). */
  readonly preSharedKey: Secret | undefined
  readonly limits: HostLimits
  /** Takes part in the network's DHT. */
  readonly dht: boolean
  /** Keeps on the disk what others have put into the DHT here. */
  readonly keepRecords: boolean
  /** Asks the router to forward the ports (UPnP). */
  readonly upnp: boolean
  /** Addresses that the owner names: ports forwarded by hand. */
  readonly announce: readonly string[]
  /** What it forwards for those whom nobody can dial, once others can dial it. */
  readonly relay: RelayCapacity
}

export interface HostLimits extends Partial<DhtStoreLimits> {
  readonly connections: number
  /** New ones a second from one address. */
  readonly inboundPerSecond: number
  /** Half-open ones. */
  readonly inboundPending: number
}

type TransportFactory = NonNullable<Libp2pOptions['transports']>[number]

/** The one place where libp2p is put together. `onFound` hears every mDNS answer, also of peers already known. */
export async function createHost(
  options: HostOptions,
  deps: {
    identity: Pick<Identity, 'transportKey'>
    logger: Logger
    onFound: (peer: PeerInfo) => void
    checkRecord: RecordCheck
    relays: RelayClient
    shutOut: ShutOut
    links: Pick<Links, 'preferred' | 'open'>
  },
): Promise<{ host: Host; stores: readonly DhtStore[]; close: () => Promise<void> }> {
  const datastore = options.folder === undefined ? undefined : await openPeerDatastore(options.folder, deps.logger)
  const discovery = options.mdns ? localDiscovery(options, deps.onFound) : undefined
  const usesQuic = options.transports.includes('quic') && options.preSharedKey === undefined
  const quic = usesQuic ? await quicTransport(deps.logger) : undefined
  const refused = createRefusedDials(() => performance.now())
  const { services: dhts, stores } = dhtServices(options, deps.checkRecord)
  try {
    const host = await createLibp2p<Services>({
      ...connectionSettings(options.limits, deps.links),
      start: false,
      ...libp2pLogger(process.env.DEBUG),
      privateKey: privateKeyFromProtobuf(deps.identity.transportKey.reveal()),
      nodeInfo: { name: 'llm-node', version: options.version, userAgent: `llm-node/${options.version}` },
      addresses: {
        listen: options.listen.filter((addr) => quic !== undefined || !addr.includes('/quic')),
        appendAnnounce: [...options.announce],
        addressVerificationRetry: reachabilityLimits.askAgainFirstMs / 2,
      },
      transports: [
        refused.tcp(limitReaching(tcp())),
        ...(quic === undefined ? [] : [refused.quic(quic)]),
        limitDial(deps.relays.transport),
      ],
      connectionGater: { ...deps.relays.gater, ...deps.shutOut.gater },
      connectionEncrypters: [singleWrite(noise())],
      ...(options.preSharedKey === undefined ? {} : { connectionProtector: gate(options.preSharedKey) }),
      streamMuxers: [yamux(yamuxSettings)],
      peerDiscovery: discovery === undefined ? [] : [discovery.factory],
      services: {
        identify: identify(),
        identifyPush: identifyPush(),
        ping: ping(pingSettings),
        ...reachServices(options),
        ...dhts,
      },
      ...(datastore === undefined ? {} : { datastore }),
    })
    noteOnce(host.peerStore, { peers: p2pLimits.notedPeers, nowMs: () => performance.now() })
    if (discovery !== undefined) host.addEventListener('start', () => discovery.askAgain())
    const close = async () => {
      endGathering(host)
      await datastore?.close()
    }
    return { host, stores, close }
  } catch (error) {
    await datastore?.close()
    throw error
  }
}

/** Everything on the wire is enciphered with the network's key, down to the first negotiation (libp2p's pnet v1). */
function gate(key: Secret): ReturnType<typeof preSharedKey> {
  return preSharedKey({ psk: utf8(`/key/swarm/psk/1.0.0/\n/base16/\n${toHex(key.reveal())}`) })
}

/** What libp2p keeps inside of changes that it gathers for a second. */
interface Gathering {
  readonly stop?: () => void
}

/**
 * libp2p gathers changes of its own addresses for a second before it notes and tells them, those of its end, too: every
 * process would live that second longer, and then write to a store that is closed.
 */
function endGathering({ services }: Host): void {
  const { _updatePeerStoreAddresses: noting } = services.addresses as { _updatePeerStoreAddresses?: Gathering }
  const { _push: telling } = services.identifyPush as { _push?: Gathering }
  noting?.stop?.()
  telling?.stop?.()
}

/** Finding out and improving how others reach this node. */
function reachServices({ upnp, relay }: HostOptions) {
  return {
    addresses: ({ addressManager }: { addressManager: OwnAddresses }) => addressManager,
    relayServer: relayServerService(relay),
    autonat: autoNATv2({ timeout: p2pLimits.connectMs + 5_000, maxInboundStreams: p2pLimits.otherStreams }),
    holePunch: holePunchService(),
    ...(upnp ? { upnp: uPnPNAT({ portMappingDescription: 'llm-node' }) } : {}),
  }
}

/** What libp2p's AutoNAT keeps inside: it asks each peer once, when that one connects. */
interface AutonatInside {
  readonly client?: {
    verifyExternalAddresses?(connection: Connection): Promise<void>
    /** What was answered, by which a network that has answered once is never asked again. */
    readonly dialResults?: Map<string, unknown>
  }
}

/** Asks a peer to dial this node's addresses that nobody has dialled yet. */
export function askToDial(host: Host, connection: Connection, logger: Logger): void {
  const { client } = host.services.autonat as AutonatInside
  client?.dialResults?.clear()
  client?.verifyExternalAddresses?.(connection).catch((err) => logger.debug({ err }, 'asking a peer to dial back'))
}

function dhtServices(options: HostOptions, check: RecordCheck) {
  if (!options.dht) return { services: {}, stores: [] }
  const { network, keepRecords: keep } = options
  const limits = { ...p2pLimits, ...options.limits }
  const common = { network, check, nowMs: () => Date.now(), keep, limits }
  const [lan, wan] = [createDhtService({ ...common, reach: 'lan' }), createDhtService({ ...common, reach: 'wan' })]
  return { services: { lanDht: lan.factory, wanDht: wan.factory }, stores: [lan.store, wan.store] }
}

/** A link may be proven while it is measured; with one stream each the two would refuse each other. */
const pingSettings = { maxInboundStreams: p2pLimits.otherStreams, maxOutboundStreams: p2pLimits.otherStreams }

/** The read buffer and the window are the same, or a full window overflows the buffer (yamux 8, stream.ts). */
const yamuxSettings = {
  maxInboundStreams: p2pLimits.circuitStreams + 64,
  maxOutboundStreams: p2pLimits.circuitStreams + 64,
  // The dialling end may open streams before the far end has finished its side: 11 of them would end the connection.
  maxEarlyStreams: p2pLimits.circuitStreams + 64,
  streamOptions: {
    maxReadBufferLength: p2pLimits.streamBufferBytes,
    maxStreamWindowSize: p2pLimits.streamBufferBytes,
  },
}

/**
 * QUIC is a second way in, not the first: measured over loopback a 5 KiB frame goes round in 0.34–0.44 ms (TCP 0.28–0.32),
 * 64 KiB in 2.4 ms (TCP 0.5). Its binary is missing on some platforms; the node then runs on TCP alone.
 */
async function quicTransport(logger: Logger): Promise<TransportFactory | undefined> {
  try {
    const { quic } = await import('@chainsafe/libp2p-quic')
    return quic({
      // protocol.md §6: links that carry circuits notice a dead end within 3 s.
      maxIdleTimeout: 3_000,
      // It cannot be broken off: without UDP the next address has its turn after this.
      handshakeTimeout: p2pLimits.connectAddressMs,
      keepAliveInterval: 1_000,
      maxConcurrentStreamLimit: p2pLimits.circuitStreams + 64,
      maxStreamData: p2pLimits.streamBufferBytes,
      maxConnectionData: 4 * p2pLimits.streamBufferBytes,
    })
  } catch (error) {
    logger.warn({ err: error }, 'QUIC is not available on this machine; TCP is used')
    return undefined
  }
}

function connectionSettings(
  limits: HostLimits,
  links: Pick<Links, 'preferred' | 'open'>,
): Pick<Libp2pOptions, 'connectionManager' | 'connectionMonitor' | 'peerStore'> {
  const dialOrder = {
    isConnected: (peerId: string) => links.open(peerId).length > 0,
    preferred: (peerId: string) => links.preferred(peerId),
  }
  return {
    connectionManager: {
      maxConnections: limits.connections,
      inboundConnectionThreshold: limits.inboundPerSecond,
      maxIncomingPendingConnections: limits.inboundPending,
      dialTimeout: p2pLimits.connectMs,
      // The transports know better (dial-limits.ts).
      addressDialTimeout: p2pLimits.connectMs,
      maxPeerAddrsToDial: 2 * p2pLimits.addressesPerPeer,
      addressSorter: (a, b) => compareDialAddrs(a.multiaddr, b.multiaddr, { isOwnNetwork, ...dialOrder }),
    },
    // It would ping every connection every 10 s and drop circuits over one late answer (js-libp2p#3463); keeper.ts measures.
    connectionMonitor: { enabled: false },
    peerStore: { maxAddressAge: 24 * 3_600_000, maxPeerAge: 7 * 86_400_000 },
  }
}

/** What @libp2p/mdns keeps inside while it runs: multicast-dns, to ask more often than at its steady interval. */
interface Asking {
  readonly mdns?: { query(question: { questions: { name: string; type: 'PTR' }[] }): void }
}
/** A node's first question may be lost, or come before the others listen: two more soon after the start. */
const ASK_AGAIN_MS = [1_000, 3_000]

interface LocalDiscovery {
  readonly factory: ReturnType<typeof mdns>
  /** To be called when the node has started. */
  askAgain(): void
}

function localDiscovery(options: HostOptions, onFound: (peer: PeerInfo) => void): LocalDiscovery {
  const serviceTag = mdnsServiceTag(options.network)
  const build = mdns({ serviceTag, interval: options.mdnsIntervalMs })
  let asking: Asking | undefined
  return {
    factory(components) {
      const discovery = build(components)
      // libp2p itself reports only peers that its store does not know yet, which after a restart is nobody.
      discovery.addEventListener('peer', (event) => onFound(event.detail))
      asking = discovery as Asking
      return discovery
    },
    askAgain() {
      for (const waitMs of ASK_AGAIN_MS) {
        const ask = () => asking?.mdns?.query({ questions: [{ name: serviceTag, type: 'PTR' }] })
        setTimeout(ask, waitMs).unref()
      }
    },
  }
}
