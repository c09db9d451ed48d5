import {
  type CircuitRelayTransportComponents,
  circuitRelayTransport,
  RELAY_V2_HOP_CODEC,
} from '@libp2p/circuit-relay-v2'
import type { ConnectionGater, IdentifyResult, PeerId, Transport } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { LlmNodeError } from '../base/errors.ts'
import { relayLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import type { Host } from './host.ts'
import { isLocalAddr } from './peer-addrs.ts'

/** Holds places on relays, so that others reach a node that they cannot dial. */
export interface RelayClient {
  /** For `createLibp2p`: dials relayed addresses, and takes relayed connections from relays that hold a place. */
  readonly transport: (components: CircuitRelayTransportComponents) => Transport
  readonly gater: Pick<ConnectionGater, 'denyInboundRelayedConnection'>
  /** Begins to watch for relays. */
  start(host: Host, onChange: () => void): void
  /** Whether places are wanted; without, those that are held are given up. */
  want(wanted: boolean): void
  /** Addresses of this node by way of its relays, best first. */
  addrs(): readonly Multiaddr[]
  /** PeerIds of the relays. */
  relays(): readonly string[]
  stop(): void
}

/** What the transport keeps inside. libp2p's way of listening would take any relay, and leak a listener with each. */
interface Reservations extends EventTarget {
  addRelay(peer: PeerId, type: 'configured'): Promise<Held>
  hasReservation(peer: PeerId): boolean
  cancelReservations(): void
}
interface Held {
  readonly relay: PeerId
  readonly details: { readonly reservation: { readonly addrs: readonly Uint8Array[] } }
}

interface Place {
  readonly relay: PeerId
  readonly addrs: readonly Multiaddr[]
}

interface Patience {
  readonly notBeforeMs: number
  readonly waitMs: number
}

/** `isRelay`: whether a peer that offers itself may be used, besides those with a public address. */
export function createRelayClient(
  options: { readonly isRelay: (peerId: string) => boolean },
  deps: { readonly logger: Logger; readonly nowMs: () => number },
): RelayClient {
  return new Client(options, deps)
}

class Client implements RelayClient {
  readonly #options: { readonly isRelay: (peerId: string) => boolean }
  readonly #deps: { readonly logger: Logger; readonly nowMs: () => number }
  readonly #offers = new Map<string, PeerId>()
  readonly #places = new Map<string, Place>()
  readonly #patience = new Map<string, Patience>()
  #reservations: Reservations | undefined
  #onChange: () => void = () => {}
  #wanted = false
  #asking = false
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(
    options: { readonly isRelay: (peerId: string) => boolean },
    deps: { readonly logger: Logger; readonly nowMs: () => number },
  ) {
    this.#options = options
    this.#deps = deps
  }

  readonly transport = (components: CircuitRelayTransportComponents): Transport => {
    // A relay that passes on a call without a place of ours must not make us listen there: the gater refuses it.
    const transportManager = Object.assign(Object.create(components.transportManager), {
      listen: async () => {
        throw new LlmNodeError('PEER_REFUSED', 'This relay holds no place of ours.')
      },
    })
    const never = { has: () => true, add() {}, remove() {} }
    const transport = circuitRelayTransport({
      discoveryFilter: never,
      reservationCompletionTimeout: relayLimits.hopMs,
      maxInboundStopStreams: relayLimits.perTarget,
      maxOutboundStopStreams: relayLimits.perTarget,
    })(
      new Proxy(components, {
        get: (target, name) => (name === 'transportManager' ? transportManager : Reflect.get(target, name)),
      }),
    )
    const { reservationStore } = transport as Transport & { reservationStore?: Reservations }
    if (reservationStore === undefined) throw new LlmNodeError('INTERNAL', 'The relay transport cannot be guarded.')
    this.#reservations = reservationStore
    return transport
  }

  readonly gater = {
    denyInboundRelayedConnection: async (relay: PeerId): Promise<boolean> =>
      this.#reservations?.hasReservation(relay) !== true,
  }

  start(host: Host, onChange: () => void): void {
    this.#onChange = onChange
    host.addEventListener('peer:identify', ({ detail }) => this.#met(detail))
    host.addEventListener('peer:disconnect', ({ detail }) => this.#offers.delete(detail.toString()))
    this.#reservations?.addEventListener('relay:created-reservation', (event) => {
      this.#hold((event as CustomEvent<Held>).detail)
    })
    this.#reservations?.addEventListener('relay:removed', (event) => {
      this.#lose((event as CustomEvent<Held>).detail.relay)
    })
  }

  want(wanted: boolean): void {
    this.#wanted = wanted
    if (wanted) this.#seek()
    if (wanted || this.#places.size === 0) return
    this.#reservations?.cancelReservations()
    this.#places.clear()
    this.#onChange()
  }

  addrs(): readonly Multiaddr[] {
    return [...this.#places.values()].flatMap(({ addrs }) => addrs)
  }

  relays(): readonly string[] {
    return [...this.#places.keys()]
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #met({ peerId, protocols, connection }: IdentifyResult): void {
    const id = peerId.toString()
    const usable = connection.limits === undefined && connection.direct
    const known = this.#options.isRelay(id) || !isLocalAddr(connection.remoteAddr)
    if (!protocols.includes(RELAY_V2_HOP_CODEC)) this.#offers.delete(id)
    else if (usable && known) {
      this.#offers.set(id, peerId)
      this.#seek()
    }
  }

  #seek(): void {
    if (!this.#wanted || this.#stopped || this.#asking || this.#places.size >= relayLimits.wanted) return
    const nowMs = this.#deps.nowMs()
    const free = [...this.#offers].filter(([id]) => !this.#places.has(id))
    const ready = free.filter(([id]) => (this.#patience.get(id)?.notBeforeMs ?? 0) <= nowMs)
    const [id, relay] = ready[Math.floor(Math.random() * ready.length)] ?? []
    if (id === undefined || relay === undefined) {
      const next = Math.min(...free.map(([other]) => this.#patience.get(other)?.notBeforeMs ?? 0))
      if (free.length > 0) this.#seekIn(Math.max(100, next - nowMs))
      return
    }
    this.#asking = true
    this.#reservations
      ?.addRelay(relay, 'configured')
      .then((held) => {
        this.#patience.delete(id)
        this.#hold(held)
      })
      .catch((err) => {
        this.#deps.logger.debug({ relay: id, err }, 'a relay has no place for this node')
        const waitMs = Math.min(
          relayLimits.retryMaxMs,
          2 * (this.#patience.get(id)?.waitMs ?? relayLimits.retryFirstMs / 2),
        )
        // One entry for each offer at most, and offers are connections.
        for (const old of this.#patience.keys()) if (!this.#offers.has(old)) this.#patience.delete(old)
        this.#patience.set(id, { notBeforeMs: this.#deps.nowMs() + waitMs, waitMs })
      })
      .finally(() => {
        this.#asking = false
        this.#seek()
      })
  }

  #seekIn(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#seek(), ms)
    this.#timer.unref()
  }

  #hold({ relay, details }: Held): void {
    if (this.#stopped || !this.#wanted) return
    const addrs = relayedAddrs(relay.toString(), details.reservation.addrs)
    this.#places.set(relay.toString(), { relay, addrs })
    this.#onChange()
  }

  #lose(relay: PeerId): void {
    if (this.#stopped || !this.#places.delete(relay.toString())) return
    this.#onChange()
    this.#seekIn(100)
  }
}

/** What the relay says about itself, as far as it is an address of itself: public ones if it has any. */
export function relayedAddrs(relay: string, told: readonly Uint8Array[]): Multiaddr[] {
  const addrs = told.slice(0, 16).flatMap((bytes) => {
    try {
      const addr = multiaddr(bytes)
      const parts = addr.getComponents()
      const plain = parts.length === (addr.toString().includes('/quic-v1') ? 4 : 3)
      return plain && parts.at(-1)?.value === relay ? [addr] : []
    } catch {
      return []
    }
  })
  const beyond = addrs.filter((addr) => !isLocalAddr(addr))
  return (beyond.length > 0 ? beyond : addrs)
    .slice(0, relayLimits.addressesPerRelay)
    .map((addr) => addr.encapsulate('/p2p-circuit'))
}
