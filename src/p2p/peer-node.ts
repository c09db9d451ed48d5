import type { PeerInfo } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Secret } from '../base/secret.ts'
import { CIRCUIT_PROTOCOL } from './circuit-frames.ts'
import { acceptCircuits, circuitRules } from './circuit-streams.ts'
import { type ConnectionInfo, describeConnection } from './connection-info.ts'
import { createDht, type Dht } from './dht.ts'
import type { RecordCheck } from './dht-service.ts'
import type { DhtStore } from './dht-store.ts'
import type { FramedStream } from './framed-stream.ts'
import type { Host } from './host.ts'
import type { Identity } from './identity.ts'
import type { Reachability } from './judge-reachability.ts'
import { askToDial, createHost, type HostLimits, type HostOptions } from './libp2p-host.ts'
import { createLinks, type Links, type QuicTrials, type Upgrades } from './links.ts'
import { listenError } from './listen-error.ts'
import { createLocalPeers } from './local-peers.ts'
import { listenAddrs, type PeerTarget, shareableAddrs, type TransportName } from './peer-addrs.ts'
import { pingConnection } from './ping-connection.ts'
import { createReachabilityWatch, type ReachabilityWatch } from './reachability.ts'
import { createRedialler } from './redial.ts'
import { createRelayClient, type RelayClient } from './relay-client.ts'
import type { RelayCapacity } from './relay-server.ts'
import { createRequester, handleRequests, type Requester, type RequestHandler } from './requests.ts'
import { createShutOut, type ShutOut } from './shut-out.ts'
import { connectTo, meetAt, openStream } from './streams.ts'

export interface PeerNodeOptions {
  /** VER: name of the network (network.ts); two names never mix. */
  readonly network: string
  /** 32 bytes, of a private network: whoever lacks it gets no protocol at all. QUIC is then off. */
  readonly preSharedKey?: Secret | undefined
  /** Version of the software, for identify. */
  readonly version: string
  /** Multiaddrs to listen on. Default: any free port on every IPv4 interface. */
  readonly listen?: readonly string[]
  /** Default: TCP and, where its binary exists, QUIC. TCP is tried first, see libp2p-host.ts. */
  readonly transports?: readonly TransportName[]
  /** Find peers on the LAN. Default true. */
  readonly mdns?: boolean
  readonly mdnsIntervalMs?: number
  /** Multiaddrs, with /p2p/PEERID where known. */
  readonly bootstrap?: readonly string[]
  /** Where known peers are kept across restarts; without it only in memory. */
  readonly folder?: string
  /** Default: those of a node; a bootstrap node takes more strangers at once. */
  readonly limits?: HostLimits
  /** Take part in the network's DHT. Default false: adverts alone, for a swarm whose members all meet. */
  readonly dht?: boolean
  /** Ask the router to forward the ports (UPnP). Default false. */
  readonly upnp?: boolean
  /** Multiaddrs of ports that the router forwards to this machine. */
  readonly announce?: readonly string[]
  /** Let others come in through this node once it can be dialled. Default: not at all. */
  readonly relay?: RelayCapacity | undefined
  /** The owner vouches that others can dial this machine's public addresses, and it relays at once: a bootstrap node. */
  readonly vouched?: boolean
}

/** How this node is reached, and what it does for others in that respect. */
export interface ReachabilityReport extends Reachability {
  /** PeerIds of the relays through which others come in. */
  readonly relays: readonly string[]
  /** IP addresses under which peers outside see this node. */
  readonly seenAs: readonly string[]
  /** Relayed connections since the start, and how many a direct one has followed. */
  readonly upgrades: Upgrades
  readonly quic: QuicTrials
  /** What this node relays itself; null while it does not. */
  readonly relaying: { readonly reservations: number; readonly connections: number } | null
}

/** The node's place in the libp2p network. Structurally a CircuitTransport of src/onion/ports.ts. */
export interface PeerNode extends Requester {
  readonly self: {
    readonly peerId: string
    /** Where others can reach this node now, multiaddrs as text without the PeerId, best first. */
    addrs(): readonly string[]
  }
  readonly network: string
  /** Undefined when it was not asked for. */
  readonly dht: Dht | undefined
  /** Starts listening and finding peers. Throws PORT_IN_USE. Idempotent. */
  start(): Promise<void>
  stop(): Promise<void>
  reachability(): ReachabilityReport
  /** The word or the reason has changed. */
  onReachability(handler: () => void): void
  isConnected(peerId: string): boolean
  /** The connection that is used for the peer. */
  connectionTo(peerId: string): ConnectionInfo | undefined
  connections(): readonly ConnectionInfo[]
  /** Makes sure that there is a connection. Throws PEER_UNREACHABLE, ABORTED. */
  connect(target: PeerTarget, options: { signal: AbortSignal }): Promise<void>
  /** Connects to whoever answers at a multiaddr; the PeerId that it proved. Throws BAD_INPUT, PEER_UNREACHABLE, ABORTED. */
  meet(addr: string, options: { signal: AbortSignal }): Promise<string>
  /** Opens a circuit stream. Throws PEER_UNREACHABLE, ABORTED. */
  open(target: PeerTarget, options: { signal: AbortSignal }): Promise<FramedStream>
  /** Closes the connections to a peer, and takes none from it for so long. */
  refuse(peerId: string, ms: number): void
  /** Inbound circuit streams; without a handler they are reset. */
  onLink(handler: (link: FramedStream) => void): void
  /** Answers requests of `protocol`. Before start. */
  handle(protocol: string, options: { maxRequestBytes: number }, handler: RequestHandler): Promise<void>
  /** Peers that speak `protocol`, as they connect and leave. Before start. */
  onPeer(
    protocol: string,
    handlers: { connected(peerId: string): void; disconnected?(peerId: string): void },
  ): Promise<void>
  /** A peer has connected that was not before. */
  onConnected(handler: (peerId: string) => void): void
  /** The addresses of `self` have changed. */
  onAddrs(handler: () => void): void
  /** Asks the peer for a round trip now, ms. Throws PEER_UNREACHABLE. */
  ping(peerId: string, options: { signal: AbortSignal }): Promise<number>
}

/** Throws HOME_IN_USE, HOME_UNUSABLE, BAD_INPUT (a bootstrap address). */
export async function createPeerNode(
  options: PeerNodeOptions,
  deps: { identity: Pick<Identity, 'transportKey'>; logger: Logger },
): Promise<PeerNode> {
  const { logger } = deps
  const transports = options.transports ?? ['tcp', 'quic']
  const listen = options.listen ?? listenAddrs('0.0.0.0', 0, transports)
  let checkRecord: RecordCheck = () => {
    throw new LlmNodeError('PEER_REFUSED', 'This node keeps no records.')
  }
  let onFound: (peer: PeerInfo) => void = () => {}
  const nowMs = () => performance.now()
  const known = new Set((options.bootstrap ?? []).map((addr) => addr.split('/p2p/')[1]))
  const relays = createRelayClient({ isRelay: (peerId) => known.has(peerId) }, { logger, nowMs })
  const both = transports.length > 1 && options.preSharedKey === undefined
  const links = createLinks({ both, keeps: (peerId) => relays.relays().includes(peerId) }, { logger, nowMs })
  const shutOut = createShutOut(nowMs)
  const { host, stores, close } = await createHost(hostOptions(options, transports, listen), {
    identity: deps.identity,
    logger,
    onFound: (peer) => onFound(peer),
    checkRecord: (key, value) => checkRecord(key, value),
    relays,
    links,
    shutOut,
  })
  const reach = watchReachability(host, options, { relays, logger, nowMs })
  const redialler = createRedialler({ bootstrap: options.bootstrap ?? [] }, { host, logger })
  const localPeers = createLocalPeers({ host, logger })
  onFound = localPeers.found
  const parts: NodeParts = { options, host, links, reach, relays, shutOut, circuits: await acceptCircuits(host) }
  const services = [links, reach.watch, redialler]
  const state = { started: false, stopped: undefined as Promise<void> | undefined }
  const stopAll = async (): Promise<void> => {
    for (const service of [...services, localPeers]) service.stop()
    await host.stop()
    await close()
  }
  return {
    ...speak(parts),
    dht: joinDht(host, stores, (check) => {
      checkRecord = check
    }),
    async start() {
      if (state.started) return
      state.started = true
      links.start(host)
      try {
        await host.start()
      } catch (error) {
        state.stopped ??= stopAll()
        await state.stopped.catch(() => {})
        throw listenError(error, listen)
      }
      reach.watch.start()
      redialler.start()
    },
    stop: () => (state.stopped ??= stopAll()),
  }
}

interface NodeParts {
  readonly options: PeerNodeOptions
  readonly host: Host
  readonly links: Links
  readonly relays: RelayClient
  readonly shutOut: ShutOut
  readonly reach: { readonly watch: ReachabilityWatch; onChange(handler: () => void): void }
  readonly circuits: { onLink(handler: (link: FramedStream) => void): void }
}

function watchReachability(
  host: Host,
  options: PeerNodeOptions,
  { relays, logger, nowMs }: { relays: RelayClient; logger: Logger; nowMs: () => number },
): NodeParts['reach'] {
  const handlers = new Set<() => void>()
  const watch = createReachabilityWatch(
    { vouched: options.vouched ?? false, serveRelay: options.relay !== undefined },
    {
      host,
      addresses: host.services.addresses,
      client: relays,
      server: host.services.relayServer,
      askToDial: (connection) => askToDial(host, connection, logger),
      nowMs,
      logger,
      onChange: () => {
        for (const handler of handlers) handler()
      },
    },
  )
  return { watch, onChange: (handler) => void handlers.add(handler) }
}

/** Everything but its life. */
function speak(parts: NodeParts): Omit<PeerNode, 'start' | 'stop' | 'dht'> {
  const { host, links, reach, circuits, shutOut } = parts
  return {
    ...describeHost(parts),
    ...createRequester({ host, links }),
    connect: async (target, { signal }) => {
      await connectTo({ host, links }, target, signal)
    },
    meet: (addr, { signal }) => meetAt(host, addr, signal),
    open: (target, { signal }) =>
      openStream({ host, links }, target, { protocol: CIRCUIT_PROTOCOL, signal, rules: circuitRules }),
    refuse(peerId, ms) {
      shutOut.add(peerId, ms)
      host.hangUp(peerIdFromString(peerId)).catch(() => {})
    },
    onLink: (handler) => circuits.onLink(handler),
    handle: (protocol, { maxRequestBytes }, handler) => handleRequests(host, { protocol, maxRequestBytes }, handler),
    async onPeer(protocol, handlers) {
      await host.register(protocol, {
        notifyOnLimitedConnection: true,
        onConnect: (peer) => handlers.connected(peer.toString()),
        onDisconnect: (peer) => handlers.disconnected?.(peer.toString()),
      })
    },
    onConnected: (handler) => host.addEventListener('peer:connect', ({ detail }) => handler(detail.toString())),
    onAddrs: (handler) => host.addEventListener('self:peer:update', () => handler()),
    onReachability: (handler) => reach.onChange(handler),
    ping: (peerId, { signal }) => pingPeer(links, peerId, signal),
  }
}

function hostOptions(
  options: PeerNodeOptions,
  transports: readonly TransportName[],
  listen: readonly string[],
): HostOptions {
  return {
    network: options.network,
    version: options.version,
    listen,
    transports,
    mdns: options.mdns ?? true,
    mdnsIntervalMs: options.mdnsIntervalMs ?? 10_000,
    folder: options.folder,
    preSharedKey: options.preSharedKey,
    limits: options.limits ?? p2pLimits,
    dht: options.dht ?? false,
    keepRecords: options.vouched ?? false,
    upnp: options.upnp ?? false,
    announce: options.announce ?? [],
    relay: options.relay ?? { reservations: 0, connections: 0, perPeer: 0 },
  }
}

function joinDht(host: Host, stores: readonly DhtStore[], onRecord: Dht['onRecord']): Dht | undefined {
  const dhts = [host.services.lanDht, host.services.wanDht].filter((dht) => dht !== undefined)
  return dhts.length === 0 ? undefined : createDht(dhts, { self: host.peerId.toString(), stores, onRecord })
}

function describeHost({
  options,
  host,
  links,
  reach,
  relays,
}: NodeParts): Pick<PeerNode, 'self' | 'network' | 'isConnected' | 'connections' | 'connectionTo' | 'reachability'> {
  const { relayServer } = host.services
  return {
    self: { peerId: host.peerId.toString(), addrs: () => shareableAddrs(host.getMultiaddrs()) },
    network: options.network,
    isConnected: (peerId) => links.open(peerId).length > 0,
    connections: () => host.getConnections().map(describeConnection),
    connectionTo(peerId) {
      const [best] = links.open(peerId)
      return best === undefined ? undefined : describeConnection(best)
    },
    reachability: () => ({
      ...reach.watch.state,
      relays: relays.relays(),
      seenAs: reach.watch.seenAs,
      upgrades: links.upgrades,
      quic: links.quic,
      relaying: relayServer.isOpen
        ? { reservations: relayServer.nReservations, connections: relayServer.nConnections }
        : null,
    }),
  }
}

async function pingPeer(links: Links, peerId: string, signal: AbortSignal): Promise<number> {
  const [connection] = links.open(peerId)
  if (connection === undefined) throw new LlmNodeError('PEER_UNREACHABLE', `There is no connection to ${peerId}.`)
  try {
    const [ms = 0] = await pingConnection(connection, { signal })
    return ms
  } catch (cause) {
    throw new LlmNodeError('PEER_UNREACHABLE', `${peerId} does not answer a ping.`, { cause })
  }
}
