import type { Connection, PeerInfo } from '@libp2p/interface'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Secret } from '../base/secret.ts'
import { CIRCUIT_HEADER_BYTES, CIRCUIT_PROTOCOL, circuitFrameLength } from './circuit-frames.ts'
import { createDht, type Dht } from './dht.ts'
import type { RecordCheck } from './dht-service.ts'
import type { FramedStream } from './framed-stream.ts'
import type { Identity } from './identity.ts'
import { createHost, type Host, type HostLimits, type HostOptions } from './libp2p-host.ts'
import { createLocalPeers } from './local-peers.ts'
import { isLocalAddr, listenAddrs, type PeerTarget, shareableAddrs, type TransportName } from './peer-addrs.ts'
import { createRedialler } from './redial.ts'
import { createRequester, handleRequests, type Requester, type RequestHandler } from './requests.ts'
import { connectTo, type FrameRules, frameStream, meetAt, openConnections, openStream } from './streams.ts'

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
}

export interface ConnectionInfo {
  readonly peerId: string
  readonly addr: string
  readonly direction: 'inbound' | 'outbound'
  readonly transport: 'tcp' | 'quic' | 'relay'
  readonly isLocal: boolean
  /** Last round trip, whole milliseconds; null while unknown. */
  readonly rttMs: number | null
  readonly openedMs: number
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
  isConnected(peerId: string): boolean
  connections(): readonly ConnectionInfo[]
  /** Makes sure that there is a connection. Throws PEER_UNREACHABLE, ABORTED. */
  connect(target: PeerTarget, options: { signal: AbortSignal }): Promise<void>
  /** Connects to whoever answers at a multiaddr; the PeerId that it proved. Throws BAD_INPUT, PEER_UNREACHABLE, ABORTED. */
  meet(addr: string, options: { signal: AbortSignal }): Promise<string>
  /** Opens a circuit stream. Throws PEER_UNREACHABLE, ABORTED. */
  open(target: PeerTarget, options: { signal: AbortSignal }): Promise<FramedStream>
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

const circuitRules: FrameRules = { headerBytes: CIRCUIT_HEADER_BYTES, frameLength: circuitFrameLength }

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
  const { host, close } = await createHost(hostOptions(options, transports, listen), {
    identity: deps.identity,
    logger,
    onFound: (peer) => onFound(peer),
    checkRecord: (key, value) => checkRecord(key, value),
  })
  const redialler = createRedialler({ bootstrap: options.bootstrap ?? [] }, { host, logger })
  const localPeers = createLocalPeers({ host, logger })
  onFound = localPeers.found
  const circuits = await acceptCircuits(host)
  const state = { started: false, stopped: undefined as Promise<void> | undefined }
  const stopAll = async (): Promise<void> => {
    redialler.stop()
    localPeers.stop()
    await host.stop()
    await close()
  }
  return {
    ...describeHost(host, options.network),
    ...createRequester(host),
    dht: joinDht(host, (check) => {
      checkRecord = check
    }),
    async start() {
      if (state.started) return
      state.started = true
      try {
        await host.start()
      } catch (error) {
        state.stopped ??= stopAll()
        await state.stopped.catch(() => {})
        throw listenError(error, listen)
      }
      redialler.start()
    },
    stop: () => (state.stopped ??= stopAll()),
    connect: async (target, { signal }) => {
      await connectTo(host, target, signal)
    },
    meet: (addr, { signal }) => meetAt(host, addr, signal),
    open: (target, { signal }) => openStream(host, target, { protocol: CIRCUIT_PROTOCOL, signal, rules: circuitRules }),
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
    ping: (peerId, { signal }) => pingPeer(host, peerId, signal),
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
  }
}

function joinDht(host: Host, onRecord: Dht['onRecord']): Dht | undefined {
  const dhts = [host.services.lanDht, host.services.wanDht].filter((dht) => dht !== undefined)
  return dhts.length === 0 ? undefined : createDht(dhts, { self: host.peerId.toString(), onRecord })
}

function describeHost(host: Host, network: string): Pick<PeerNode, 'self' | 'network' | 'isConnected' | 'connections'> {
  return {
    self: { peerId: host.peerId.toString(), addrs: () => shareableAddrs(host.getMultiaddrs()) },
    network,
    isConnected: (peerId) => openConnections(host, peerId).length > 0,
    connections: () => host.getConnections().map(describeConnection),
  }
}

function describeConnection(connection: Connection): ConnectionInfo {
  const addr = connection.remoteAddr.toString()
  return {
    peerId: connection.remotePeer.toString(),
    addr,
    direction: connection.direction,
    transport: addr.includes('/p2p-circuit') ? 'relay' : addr.includes('/quic') ? 'quic' : 'tcp',
    isLocal: isLocalAddr(connection.remoteAddr),
    rttMs: connection.rtt ?? null,
    openedMs: connection.timeline.open,
  }
}

/** The handler is registered in any case: without it the limits of outbound circuit streams would be libp2p's 64. */
async function acceptCircuits(host: Host): Promise<{ onLink(handler: (link: FramedStream) => void): void }> {
  let handler: ((link: FramedStream) => void) | undefined
  await host.handle(
    CIRCUIT_PROTOCOL,
    (stream, connection) => {
      if (handler === undefined) stream.abort(new Error('no circuits here'))
      else handler(frameStream(stream, connection, circuitRules))
    },
    {
      maxInboundStreams: p2pLimits.circuitStreams,
      maxOutboundStreams: p2pLimits.circuitStreams,
      runOnLimitedConnection: true,
    },
  )
  return {
    onLink(next) {
      handler = next
    },
  }
}

async function pingPeer(host: Host, peerId: string, signal: AbortSignal): Promise<number> {
  const [connection] = openConnections(host, peerId)
  if (connection === undefined) throw new LlmNodeError('PEER_UNREACHABLE', `There is no connection to ${peerId}.`)
  try {
    return await host.services.ping.ping(connection.remotePeer, { signal })
  } catch (cause) {
    throw new LlmNodeError('PEER_UNREACHABLE', `${peerId} does not answer a ping.`, { cause })
  }
}

function listenError(error: unknown, listen: readonly string[]): LlmNodeError {
  const text = error instanceof Error ? `${error.message} ${String(error.cause ?? '')}` : String(error)
  if (/EADDRINUSE|in use/i.test(text)) {
    return new LlmNodeError('PORT_IN_USE', `Another program already listens on ${listen.join(' or ')}.`, {
      hint: 'Choose another port with --port, or 0 for any free one.',
      cause: error,
    })
  }
  if (/EADDRNOTAVAIL|EACCES|UnsupportedListenAddress|listened on/i.test(text)) {
    return new LlmNodeError('BAD_CONFIG', `This machine cannot listen on ${listen.join(' or ')}.`, {
      hint: 'Name an address of this machine and a port above 1023.',
      cause: error,
    })
  }
  return new LlmNodeError('INTERNAL', 'The network could not be started.', { cause: error })
}
