/** Links between simulated nodes: delays, bandwidth, NAT, requests with their bytes, and peers that fall silent. */
import { LlmNodeError } from '../../src/base/errors.ts'
import type { PeerNode } from '../../src/p2p/peer-node.ts'
import type { RequestHandler } from '../../src/p2p/requests.ts'
import type { SimClock } from './sim-clock.ts'

/**
 * What a request costs in each direction besides its body and answer, IP and TCP headers included: a stream of its own
 * (yamux, multistream-select, noise) and about eight packets. Measured between two nodes over TCP on loopback.
 */
const REQUEST_BYTES = 570
const PING_BYTES = 600
/** 10 Mbit/s up. */
const UP_BYTES_PER_MS = 1_250
const DIAL_TIMEOUT_MS = 5_000
const REQUEST_TIMEOUT_MS = 10_000
/** Libp2p gives a dead connection up about then. */
const DEAD_LINK_MS = 60_000

export type SimPeerNode = Pick<PeerNode, 'self' | 'isConnected' | 'connect' | 'ping' | 'request' | 'handle'>

export interface SimLink {
  readonly peerId: string
  /** Cannot be dialled. */
  readonly isBehindNat: boolean
  /** In a plane of 120 ms. */
  readonly place: readonly [number, number]
  readonly connections: Set<string>
  readonly node: SimPeerNode
  sentBytes: number
  receivedBytes: number
  alive: boolean
  onConnected(peerId: string): void
  onDisconnected(peerId: string): void
}

export interface SimNetwork {
  add(options: Pick<SimLink, 'peerId' | 'isBehindNat'>): SimLink
  get(peerId: string): SimLink | undefined
  /** The process ends: `silent` as when a cable is pulled, otherwise its connections close at once. */
  remove(peerId: string, silent: boolean): void
}

export function createSimNetwork(clock: SimClock, random: () => number): SimNetwork {
  const links = new Map<string, SimLink>()
  const upFreeMs = new Map<string, number>()
  const oneWayMs = (a: SimLink, b: SimLink) => {
    const [dx, dy] = [a.place[0] - b.place[0], a.place[1] - b.place[1]]
    return 2 + Math.hypot(dx, dy) * (1 + random() / 10)
  }
  const wait = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve))
  /** Until the bytes have left the sender and arrived. */
  const travel = (from: SimLink, to: SimLink, bytes: number): Promise<void> => {
    const nowMs = clock.monotonicMs()
    const leftMs = Math.max(nowMs, upFreeMs.get(from.peerId) ?? 0) + bytes / UP_BYTES_PER_MS
    upFreeMs.set(from.peerId, leftMs)
    from.sentBytes += bytes
    to.receivedBytes += bytes
    return wait(leftMs - nowMs + oneWayMs(from, to))
  }
  const disconnect = (a: SimLink, b: SimLink) => {
    for (const [link, other] of [
      [a, b],
      [b, a],
    ] as const) {
      if (link.connections.delete(other.peerId) && link.alive) link.onDisconnected(other.peerId)
    }
  }
  const unreachable = (what: string) => new LlmNodeError('PEER_UNREACHABLE', what)

  const nodeOf = (own: () => SimLink, peerId: string): SimPeerNode => {
    let handler: RequestHandler | undefined
    const partner = async (target: string, timeoutMs: number): Promise<SimLink> => {
      const other = links.get(target)
      if (other === undefined || !own().connections.has(target)) throw unreachable('There is no connection.')
      if (other.alive) return other
      await wait(timeoutMs)
      throw unreachable('No answer.')
    }
    const answer = {
      peerId,
      handle: (body: Uint8Array, from: string) => handler?.(body, { remotePeer: from, remoteIsLocal: false }),
    }
    handlers.set(peerId, answer.handle)
    return {
      self: { peerId, addrs: () => [] },
      isConnected: (other) => own().connections.has(other),
      async handle(_protocol, _options, given) {
        handler = given
      },
      async connect({ peerId: target }) {
        const [self, other] = [own(), links.get(target)]
        if (self.connections.has(target)) return
        if (other === undefined || !other.alive || other.isBehindNat) {
          await wait(DIAL_TIMEOUT_MS)
          throw unreachable('It cannot be dialled.')
        }
        // TCP, noise and yamux: four round trips; about 2 KB.
        await wait(8 * oneWayMs(self, other))
        await travel(self, other, 2_000)
        await travel(other, self, 2_000)
        if (!self.alive || !other.alive || self.connections.has(target)) return
        self.connections.add(target)
        other.connections.add(peerId)
        self.onConnected(target)
        other.onConnected(peerId)
      },
      async ping(target) {
        const startMs = clock.monotonicMs()
        const other = await partner(target, REQUEST_TIMEOUT_MS)
        other.receivedBytes += PING_BYTES
        other.sentBytes += PING_BYTES
        own().receivedBytes += PING_BYTES
        own().sentBytes += PING_BYTES
        await wait(2 * oneWayMs(own(), other))
        return clock.monotonicMs() - startMs
      },
      async request({ peerId: target }, _protocol, body) {
        const other = await partner(target, REQUEST_TIMEOUT_MS)
        await travel(own(), other, body.length + REQUEST_BYTES)
        // A copy, as a socket would make.
        const answered = other.alive ? await handlers.get(target)?.(body.slice(), peerId) : undefined
        if (answered === undefined) throw unreachable('The peer is gone.')
        await travel(other, own(), answered.length + REQUEST_BYTES)
        return answered
      },
    }
  }
  const handlers = new Map<string, (body: Uint8Array, from: string) => Promise<Uint8Array> | Uint8Array | undefined>()
  return {
    get: (peerId) => links.get(peerId),
    add({ peerId, isBehindNat }) {
      const link: SimLink = {
        ...{ peerId, isBehindNat, connections: new Set(), sentBytes: 0, receivedBytes: 0, alive: true },
        place: [random() * 60, random() * 60],
        node: nodeOf(() => link, peerId),
        onConnected() {},
        onDisconnected() {},
      }
      links.set(peerId, link)
      return link
    },
    remove(peerId, silent) {
      const link = links.get(peerId)
      if (link === undefined) return
      link.alive = false
      const leave = () => {
        for (const other of [...link.connections]) {
          const found = links.get(other)
          if (found !== undefined) disconnect(link, found)
        }
        links.delete(peerId)
        handlers.delete(peerId)
        upFreeMs.delete(peerId)
      }
      clock.after(silent ? DEAD_LINK_MS : 50, leave)
    },
  }
}
