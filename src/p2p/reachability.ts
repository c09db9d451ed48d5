import type { IdentifyResult } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { reachabilityLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import type { Host } from './host.ts'
import { judgeReachability, type Reachability } from './judge-reachability.ts'
import type { OwnAddresses } from './own-addresses.ts'
import { isLocalAddr, isRelayedAddr, parseMultiaddr, relayOf } from './peer-addrs.ts'
import type { RelayClient } from './relay-client.ts'
import type { RelayServer } from './relay-server.ts'

export interface ReachabilityWatch {
  readonly state: Reachability
  /** Addresses under which peers outside see this node. */
  readonly seenAs: readonly string[]
  start(): void
  stop(): void
}

export interface ReachabilityOptions {
  /** The owner vouches for the public addresses of this machine: a bootstrap node, which nobody can prove first. */
  readonly vouched: boolean
  /** Others may come in through this node once it is public. */
  readonly serveRelay: boolean
}

interface Deps {
  readonly host: Host
  readonly addresses: OwnAddresses
  readonly client: RelayClient
  readonly server: RelayServer
  /** Asks a peer to dial back now. */
  readonly askToDial: (connection: IdentifyResult['connection']) => void
  readonly nowMs: () => number
  readonly logger: Logger
  readonly onChange: () => void
}

const AUTONAT_PROTOCOL = '/libp2p/autonat/2/dial-request'
const FOR_EVER_MS = 10 * 365 * 86_400_000

/** Finds out how others reach this node, tells them its addresses accordingly, and serves as a relay when it can. */
export function createReachabilityWatch(options: ReachabilityOptions, deps: Deps): ReachabilityWatch {
  return new Watch(options, deps)
}

class Watch implements ReachabilityWatch {
  readonly #options: ReachabilityOptions
  readonly #deps: Deps
  readonly #startedMs: number
  /** Own public addresses told to others before somebody has proven them, and when libp2p noted that. */
  readonly #trusted = new Map<string, number | undefined>()
  readonly #refuted = new Set<string>()
  readonly #seenAs = new Set<string>()
  readonly #relayed = new Map<string, Multiaddr>()
  /** PeerIds outside that dial back when they are asked. */
  readonly #askable = new Set<string>()
  /** Mapped addresses that somebody was asked to dial. */
  readonly #tried = new Set<string>()
  #outsideSinceMs: number | undefined
  #askedMs = 0
  #pauseMs: number = reachabilityLimits.askAgainFirstMs
  #state: Reachability
  #timer: NodeJS.Timeout | undefined
  #queued = false
  #stopped = false

  constructor(options: ReachabilityOptions, deps: Deps) {
    this.#options = options
    this.#deps = deps
    this.#startedMs = deps.nowMs()
    this.#state = judgeReachability({ proven: [], unproven: [], relays: 0, ageMs: 0, outsideMs: null, port: null })
  }

  get state(): Reachability {
    return this.#state
  }

  get seenAs(): readonly string[] {
    return [...this.#seenAs]
  }

  start(): void {
    const { host, client } = this.#deps
    host.addEventListener('peer:identify', ({ detail }) => this.#met(detail))
    host.addEventListener('peer:disconnect', ({ detail }) => this.#askable.delete(detail.toString()))
    host.addEventListener('self:peer:update', () => this.#soon())
    client.start(host, () => this.#look())
    this.#look()
    this.#timer = setInterval(() => this.#look(), reachabilityLimits.everyMs)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopped = true
    clearInterval(this.#timer)
    this.#deps.client.stop()
  }

  #met({ connection, protocols, observedAddr }: IdentifyResult): void {
    if (connection.limits !== undefined || isLocalAddr(connection.remoteAddr)) return
    if (!protocols.includes(AUTONAT_PROTOCOL)) return
    this.#askable.add(connection.remotePeer.toString())
    this.#outsideSinceMs ??= this.#deps.nowMs()
    if (observedAddr !== undefined) this.#guess(observedAddr)
    this.#soon()
  }

  /** A router may forward our own port without having told anybody: whoever dials back will prove it. */
  #guess(observed: Multiaddr): void {
    const [first] = observed.getComponents()
    const ip = first?.value
    if (first?.name !== 'ip4' || ip === undefined || isLocalAddr(observed)) return
    const listening = this.#listening()
    if (this.#seenAs.size >= reachabilityLimits.guesses || listening.some(({ host }) => host === ip)) return
    this.#seenAs.add(ip)
    for (const { host, port, protocol } of listening) {
      this.#deps.addresses.addPublicAddressMapping(host, port, ip, port, protocol)
    }
  }

  /** IPv4 addresses of the own network on which this node listens. */
  #listening(): { host: string; port: number; protocol: 'tcp' | 'udp' }[] {
    return this.#deps.addresses.getAddressesWithMetadata().flatMap(({ multiaddr, type }) => {
      const [ip, transport] = multiaddr.getComponents()
      if (type !== 'transport' || ip?.name !== 'ip4' || ip.value === undefined || ip.value.startsWith('127.')) return []
      if (transport?.name !== 'tcp' && transport?.name !== 'udp') return []
      return [{ host: ip.value, port: Number(transport.value), protocol: transport.name }]
    })
  }

  #soon(): void {
    if (this.#queued || this.#stopped) return
    this.#queued = true
    setTimeout(() => {
      this.#queued = false
      this.#look()
    }, 50).unref()
  }

  #look(): void {
    if (this.#stopped) return
    const { client, server } = this.#deps
    const now = this.#deps.nowMs()
    const outsideMs = this.#outsideSinceMs === undefined ? null : now - this.#outsideSinceMs
    const { proven, unproven } = this.#sort(outsideMs !== null && outsideMs >= reachabilityLimits.provenMs)
    const direct = proven.length > 0
    // Who has a public address of its own waits for the answer; who has none needs none.
    client.want(!direct && unproven.every((addr) => this.#refuted.has(addr)))
    const serve = this.#options.serveRelay && (direct || this.#options.vouched)
    const changed = serve ? server.open() : server.close()
    changed.catch((err) => this.#deps.logger.warn({ err }, 'relaying for others cannot be switched'))
    if (!direct && outsideMs !== null) this.#askAgain(now)
    this.#tellRelayed(client.addrs())
    const relays = new Set(client.addrs().filter(isPublicRelay).map(relayOf)).size
    const port = this.#listening()[0]?.port ?? null
    const state = judgeReachability({ proven, unproven, relays, ageMs: now - this.#startedMs, outsideMs, port })
    if (state.word === this.#state.word && state.reason === this.#state.reason) return
    this.#state = state
    this.#deps.onChange()
  }

  /** A public address of this machine counts until somebody who could dial it has not. */
  #sort(judged: boolean): { proven: { addr: string; mapped: boolean }[]; unproven: string[] } {
    const all = this.#deps.addresses
      .getAddressesWithMetadata()
      .filter(({ multiaddr }) => !isRelayedAddr(multiaddr) && !isLocalAddr(multiaddr))
    const dialled = all.filter(({ multiaddr, verified, lastVerified }) => {
      const addr = multiaddr.toString()
      return verified && !(this.#trusted.has(addr) && this.#trusted.get(addr) === lastVerified)
    })
    // libp2p's AutoNAT proves one address of a request (its nonce is good for one call), so TCP vouches for QUIC beside it.
    const ips = new Set(dialled.map(({ multiaddr }) => ipOf(multiaddr)))
    const proven: { addr: string; mapped: boolean }[] = []
    const unproven: string[] = []
    for (const each of all) {
      const { multiaddr, type, verified } = each
      const addr = multiaddr.toString()
      const own = type === 'transport'
      if (type === 'ip-mapping' && !verified && !this.#tried.has(addr) && this.#askable.size > 0) {
        this.#tried.add(addr)
        this.#askedMs = Number.NEGATIVE_INFINITY
      }
      if (!verified && (own ? !this.#refuted.has(addr) : type === 'ip-mapping' && ips.has(ipOf(multiaddr)))) {
        this.#trust(multiaddr, type)
      }
      if (dialled.includes(each) || (own && (this.#options.vouched || ips.has(ipOf(multiaddr))))) {
        proven.push({ addr, mapped: !own })
      } else if (own) {
        unproven.push(addr)
        if (judged) this.#refute(multiaddr)
      }
    }
    return { proven, unproven }
  }

  /** A firewall may have been opened, or the one who was asked was busy. */
  #askAgain(nowMs: number): void {
    if (nowMs - this.#askedMs < this.#pauseMs) return
    this.#askedMs = nowMs
    this.#pauseMs = Math.min(reachabilityLimits.askAgainMs, 2 * this.#pauseMs)
    const able = this.#deps.host
      .getConnections()
      .filter(({ remotePeer, limits }) => limits === undefined && this.#askable.has(remotePeer.toString()))
    const chosen = able[Math.floor(Math.random() * able.length)]
    if (chosen !== undefined) this.#deps.askToDial(chosen)
  }

  #trust(addr: Multiaddr, type: string): void {
    const { addresses } = this.#deps
    addresses.confirmObservedAddr(addr, {
      type: type === 'transport' ? 'transport' : 'ip-mapping',
      ttl: this.#options.vouched ? FOR_EVER_MS : 0,
    })
    const noted = addresses.getAddressesWithMetadata().find(({ multiaddr }) => multiaddr.equals(addr))
    this.#trusted.set(addr.toString(), noted?.lastVerified)
  }

  #refute(addr: Multiaddr): void {
    if (this.#refuted.has(addr.toString())) return
    this.#refuted.add(addr.toString())
    this.#trusted.delete(addr.toString())
    this.#deps.addresses.removeObservedAddr(addr)
  }

  #tellRelayed(addrs: readonly Multiaddr[]): void {
    const wanted = new Map(addrs.map((addr) => [addr.toString(), addr]))
    for (const [text, addr] of this.#relayed) {
      if (wanted.has(text)) continue
      this.#relayed.delete(text)
      this.#deps.addresses.removeObservedAddr(addr)
    }
    const told = new Map(
      this.#deps.addresses.getAddressesWithMetadata().map((each) => [each.multiaddr.toString(), each]),
    )
    for (const [text, addr] of wanted) {
      this.#relayed.set(text, addr)
      // Again when libp2p has forgotten it: a peer that sees us there makes it one that nobody has proven.
      if (told.get(text)?.verified === true) continue
      this.#deps.addresses.confirmObservedAddr(addr, { type: 'observed', ttl: FOR_EVER_MS })
    }
  }
}

function isPublicRelay(addr: Multiaddr): boolean {
  return !isLocalAddr(parseMultiaddr(addr.toString().split('/p2p-circuit')[0] ?? ''))
}

function ipOf(addr: Multiaddr): string {
  return addr.getComponents()[0]?.value ?? ''
}
