import type { Connection } from '@libp2p/interface'
import { isLoopback } from '@libp2p/utils'
import { p2pLimits } from '../base/limits.ts'
import { linkLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import { chooseTransport, type Samples } from './choose-transport.ts'
import { CIRCUIT_PROTOCOL } from './circuit-frames.ts'
import type { Host } from './host.ts'
import { isRelayedAddr, relayOf, type TransportName, transportOf } from './peer-addrs.ts'
import { pingConnection } from './ping-connection.ts'

/** How far direct connections have followed relayed ones. */
export interface Upgrades {
  readonly relayed: number
  readonly direct: number
}

/** Attempts at QUIC beside TCP. */
export interface QuicTrials {
  readonly worked: number
  readonly failed: number
}

/** Which connection to a peer is used where there are several, and which transport is dialled first. */
export interface Links {
  /** Open connections to the peer, best first: direct before relayed, the chosen transport before the other. */
  open(peerId: string): Connection[]
  preferred(peerId: string): TransportName
  readonly upgrades: Upgrades
  readonly quic: QuicTrials
  start(host: Host): void
  stop(): void
}

interface Choice {
  readonly transport: TransportName
  readonly untilMs: number
}

interface LinkOptions {
  /** This node speaks TCP and QUIC, and compares them where a peer offers both. */
  readonly both: boolean
  /** A peer whose connections all stay: a relay's place for this node hangs on one of them. */
  readonly keeps: (peerId: string) => boolean
}

export function createLinks(
  options: LinkOptions,
  deps: { readonly logger: Logger; readonly nowMs: () => number },
): Links {
  return new LinkKeeper(options, deps)
}

class LinkKeeper implements Links {
  readonly #options: LinkOptions
  readonly #deps: { readonly logger: Logger; readonly nowMs: () => number }
  readonly #choices = new Map<string, Choice>()
  readonly #stopping = new AbortController()
  readonly #upgraded = { relayed: 0, direct: 0 }
  readonly #quic = { worked: 0, failed: 0 }
  #host: Host | undefined
  #comparing = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: LinkOptions, deps: { readonly logger: Logger; readonly nowMs: () => number }) {
    this.#options = options
    this.#deps = deps
  }

  get upgrades(): Upgrades {
    return { ...this.#upgraded }
  }

  get quic(): QuicTrials {
    return { ...this.#quic }
  }

  open(peerId: string): Connection[] {
    const all = this.#host?.getConnections().filter(({ remotePeer }) => remotePeer.toString() === peerId) ?? []
    const rank = ({ remoteAddr }: Connection): number =>
      isRelayedAddr(remoteAddr) ? 2 : transportOf(remoteAddr) === this.preferred(peerId) ? 0 : 1
    return all.filter(({ status }) => status === 'open').sort((a, b) => rank(a) - rank(b))
  }

  preferred(peerId: string): TransportName {
    const choice = this.#choices.get(peerId)
    return choice !== undefined && choice.untilMs > this.#deps.nowMs() ? choice.transport : 'tcp'
  }

  start(host: Host): void {
    this.#host = host
    host.addEventListener('connection:open', ({ detail }) => this.#opened(detail))
    host.addEventListener('connection:close', ({ detail }) => this.#closed(detail))
    this.#timer = setInterval(() => this.#tidy(), linkLimits.tidyMs)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopping.abort()
    clearInterval(this.#timer)
  }

  #opened(connection: Connection): void {
    const { remoteAddr, remotePeer, direction } = connection
    if (isRelayedAddr(remoteAddr)) {
      this.#upgraded.relayed++
      return
    }
    const others = this.open(remotePeer.toString()).filter((other) => other.id !== connection.id)
    if (others.length > 0 && others.every((other) => isRelayedAddr(other.remoteAddr))) this.#upgraded.direct++
    // Who has dialled compares; on one machine there is nothing to gain.
    if (!this.#options.both || direction !== 'outbound' || isLoopback(remoteAddr) || others.length > 0) return
    this.#later(linkLimits.compareAfterMs, connection)
  }

  #later(ms: number, connection: Connection): void {
    const timer = setTimeout(() => {
      if (connection.status !== 'open' || this.#stopping.signal.aborted) return
      // One after the other: dozens of links may have come about at the same time.
      if (this.#comparing >= linkLimits.comparing) return this.#later(linkLimits.compareAfterMs, connection)
      this.#comparing++
      this.#compare(connection)
        .catch((err) => this.#deps.logger.debug({ err }, 'comparing transports'))
        .finally(() => {
          this.#comparing--
          this.#later(linkLimits.compareEveryMs * (0.75 + Math.random() / 2), connection)
        })
    }, ms)
    timer.unref()
    this.#stopping.signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  }

  async #compare(connection: Connection): Promise<void> {
    const peerId = connection.remotePeer.toString()
    const other = await this.#secondLink(connection)
    if (other === undefined) return
    const samples: Record<TransportName, (number | null)[]> = { tcp: [], quic: [] }
    for (let round = 0; round < linkLimits.compareRounds; round++) {
      for (const link of [connection, other]) {
        const name = transportOf(link.remoteAddr)
        if (name !== 'relay') samples[name].push(await this.#trip(link))
      }
    }
    this.#choose(peerId, samples)
  }

  #choose(peerId: string, { tcp, quic }: Record<TransportName, Samples>): void {
    const transport = chooseTransport(tcp, quic)
    if (!this.#choices.has(peerId) && this.#choices.size >= linkLimits.choices) {
      this.#choices.delete(this.#choices.keys().next().value ?? '')
    }
    this.#choices.set(peerId, { transport, untilMs: this.#deps.nowMs() + linkLimits.choiceMs })
    this.#deps.logger.debug({ peerId, transport, tcp, quic }, 'chose a transport')
  }

  /** A connection over the other transport to the same machine; undefined when there is none, as without UDP. */
  async #secondLink(connection: Connection): Promise<Connection | undefined> {
    const host = this.#host
    if (host === undefined) return undefined
    const { remotePeer, remoteAddr } = connection
    const wanted = transportOf(remoteAddr) === 'tcp' ? 'quic' : 'tcp'
    const there = this.open(remotePeer.toString()).find((link) => transportOf(link.remoteAddr) === wanted)
    if (there !== undefined) return there
    const ip = remoteAddr.getComponents()[0]?.value
    const { addresses } = await host.peerStore.get(remotePeer)
    const addr = addresses
      .map(({ multiaddr }) => multiaddr)
      .find((each) => transportOf(each) === wanted && each.getComponents()[0]?.value === ip)
    if (addr === undefined) return undefined
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(p2pLimits.connectMs)])
    const target = addr.toString().includes('/p2p/') ? addr : addr.encapsulate(`/p2p/${remotePeer}`)
    try {
      const made = await host.dial(target, { signal, force: true })
      if (wanted === 'quic') this.#quic.worked++
      return transportOf(made.remoteAddr) === wanted ? made : undefined
    } catch (err) {
      if (wanted === 'quic') this.#quic.failed++
      this.#deps.logger.debug({ addr: target.toString(), err }, 'the other transport does not answer')
      return undefined
    }
  }

  async #trip(link: Connection): Promise<number | null> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(linkLimits.tripMs)])
    try {
      return (await pingConnection(link, { signal }))[0] ?? null
    } catch {
      return null
    }
  }

  #closed({ remoteAddr, remotePeer, status }: Connection): void {
    const peerId = remotePeer.toString()
    // A QUIC link that broke says more than the round trips of half an hour ago.
    if (status !== 'closed' && transportOf(remoteAddr) === 'quic') this.#choices.delete(peerId)
    if (this.#stopping.signal.aborted) return
    const through = this.#host?.getConnections().filter((link) => relayOf(link.remoteAddr) === peerId) ?? []
    for (const link of [...this.open(peerId), ...through]) {
      this.#prove(link).catch((err) => this.#deps.logger.debug({ err }, 'proving a link'))
    }
  }

  /**
   * Where one connection ends, others to the same peer, and those through it, may be dead without a sign: TCP tells when a
   * process is killed, QUIC only by silence of 3 s. Whatever does not answer soon is ended, so that circuits move on.
   */
  async #prove(link: Connection): Promise<void> {
    const timeout = AbortSignal.timeout(linkLimits.proveMs)
    try {
      await pingConnection(link, { signal: AbortSignal.any([this.#stopping.signal, timeout]) })
    } catch {
      if (timeout.aborted && link.status === 'open') link.abort(new Error('another link to this peer has ended'))
    }
  }

  /**
   * Connections beside a better one are closed once nothing runs on them. A direct one only by whoever has dialled it and
   * the better one, too: otherwise both ends could each close the other's choice.
   */
  #tidy(): void {
    const nowMs = Date.now()
    const peers = new Set(this.#host?.getConnections().map(({ remotePeer }) => remotePeer.toString()))
    for (const peerId of peers) {
      const [best, ...rest] = this.open(peerId)
      if (best === undefined || this.#options.keeps(peerId)) continue
      for (const link of rest) {
        const own = link.direction === 'outbound' && best.direction === 'outbound'
        const relayed = isRelayedAddr(link.remoteAddr) && !isRelayedAddr(best.remoteAddr)
        const busy = link.streams.some(({ protocol }) => protocol === CIRCUIT_PROTOCOL)
        if ((!own && !relayed) || busy || nowMs - link.timeline.open < linkLimits.keepSecondMs) continue
        link.close({ signal: AbortSignal.timeout(p2pLimits.closeMs) }).catch((error) => link.abort(error as Error))
      }
    }
  }
}
