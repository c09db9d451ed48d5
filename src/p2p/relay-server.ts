import {
  type CircuitRelayServerComponents,
  circuitRelayServer,
  RELAY_V2_HOP_CODEC,
  RELAY_V2_STOP_CODEC,
} from '@libp2p/circuit-relay-v2'
import { type Connection, type Libp2pEvents, type PeerId, start, stop } from '@libp2p/interface'
import { relayLimits } from '../base/limits-reach.ts'

/** How much a node forwards for those whom nobody can dial. */
export interface RelayCapacity {
  /** Nodes that are reached through this one. */
  readonly reservations: number
  /** Relayed connections at once. */
  readonly connections: number
  /** The same, that one peer has opened. */
  readonly perPeer: number
}

/** Takes reservations and relays connections (circuit relay v2) while it is open. A libp2p service. */
export interface RelayServer {
  /** Speaks the protocol from now on, which connected peers learn by identify push. Idempotent. */
  open(): Promise<void>
  /** Ends it together with everything relayed. Idempotent. */
  close(): Promise<void>
  readonly isOpen: boolean
  readonly nReservations: number
  readonly nConnections: number
}

interface Components extends CircuitRelayServerComponents {
  readonly events: {
    addEventListener(name: 'peer:disconnect', listener: (event: Libp2pEvents['peer:disconnect']) => void): void
  }
}

/** Never opens by itself: only a node that others can dial is of use as a relay. */
export function relayServerService(
  capacity: RelayCapacity,
): (components: Components) => RelayServer & { start(): void; stop(): Promise<void> } {
  return (components) => {
    const open = (): ReturnType<ReturnType<typeof circuitRelayServer>> => circuitRelayServer(init(capacity))(guarded)
    const guarded = withGater(components, capacity)
    let server: ReturnType<typeof open> | undefined
    components.events.addEventListener('peer:disconnect', ({ detail }) => {
      // libp2p keeps the slot of a peer that has gone until it expires; its timer would end a later one of the same peer.
      server?.reservations.get(detail)?.signal.clear()
      server?.reservations.delete(detail)
    })
    let turn: Promise<void> = Promise.resolve()
    // One after the other: libp2p throws when a protocol is handled twice.
    const inTurn = (task: () => Promise<void>): Promise<void> => {
      const done = turn.then(task)
      turn = done.catch(() => {})
      return done
    }
    const close = async (): Promise<void> => {
      const ending = server
      server = undefined
      for (const { signal } of ending?.reservations.values() ?? []) signal.clear()
      await stop(ending)
    }
    const openOnce = async (): Promise<void> => {
      if (server !== undefined) return
      const opened = open()
      await start(opened)
      server = opened
    }
    return {
      open: () => inTurn(openOnce),
      close: () => inTurn(close),
      get isOpen() {
        return server !== undefined
      },
      get nReservations() {
        return server?.reservations.size ?? 0
      },
      get nConnections() {
        return server === undefined ? 0 : relayed(components.connectionManager.getConnections())
      },
      start() {},
      stop: () => inTurn(close),
    }
  }
}

function init({ reservations, perPeer }: RelayCapacity): Parameters<typeof circuitRelayServer>[0] {
  return {
    hopTimeout: relayLimits.hopMs,
    maxInboundHopStreams: perPeer + 2,
    maxOutboundStopStreams: relayLimits.perTarget,
    reservations: {
      maxReservations: reservations,
      reservationTtl: relayLimits.reservationMs,
      defaultDurationLimit: relayLimits.connectionMs,
      defaultDataLimit: BigInt(relayLimits.connectionBytes),
    },
  }
}

/** The caps on connections, which libp2p does not have. */
function withGater(components: CircuitRelayServerComponents, capacity: RelayCapacity): CircuitRelayServerComponents {
  const { connectionManager, connectionGater } = components
  const denyOutboundRelayedConnection = async (source: PeerId): Promise<boolean> => {
    // The request itself has a stream already.
    const own = streamsOf(connectionManager.getConnections(source), RELAY_V2_HOP_CODEC) - 1
    return own >= capacity.perPeer || relayed(connectionManager.getConnections()) >= capacity.connections
  }
  const gater = { ...connectionGater, denyOutboundRelayedConnection }
  return new Proxy(components, {
    get: (target, name) => (name === 'connectionGater' ? gater : Reflect.get(target, name)),
  })
}

/** Each relayed connection holds one stream to its target, which this node has opened. */
function relayed(connections: readonly Connection[]): number {
  return streamsOf(connections, RELAY_V2_STOP_CODEC)
}

function streamsOf(connections: readonly Connection[], protocol: string): number {
  const direction = protocol === RELAY_V2_STOP_CODEC ? 'outbound' : 'inbound'
  let count = 0
  for (const { streams } of connections) {
    for (const stream of streams) if (stream.protocol === protocol && stream.direction === direction) count++
  }
  return count
}
