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
const CONNECT_BYTES = 2_000
const DIAL_TIMEOUT_MS = 5_000
const REQUEST_TIMEOUT_MS = 10_000
/** Libp2p gives a dead connection up about then. */
const DEAD_LINK_MS = 60_000

type SimPeerNode = Pick<PeerNode, 'self' | 'isConnected' | 'connect' | 'ping' | 'request' | 'handle'>

export interface SimLink {
  readonly peerId: string
  /** Cannot be dialled. */
  readonly isBehindNat: boolean
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
  /** The process ends: `silent` as when a cable is pulled, otherwise its connections close at once. */
  remove(peerId: string, silent: boolean): void
}

interface Line extends SimLink {
  /** In a plane of 60 ms. */
  readonly place: readonly [number, number]
  upFreeMs: number
  answer: RequestHandler | undefined
}

export function createSimNetwork(clock: SimClock, random: () => number): SimNetwork {
  const lines = new Map<string, Line>()
  const leave = (line: Line) => {
    for (const peerId of line.connections) {
      const other = lines.get(peerId)
      if (other?.connections.delete(line.peerId) && other.alive) other.onDisconnected(line.peerId)
    }
    lines.delete(line.peerId)
  }
  return {
    add(options) {
      const line: Line = {
        ...{ ...options, connections: new Set(), sentBytes: 0, receivedBytes: 0, alive: true },
        place: [random() * 60, random() * 60],
        upFreeMs: 0,
        answer: undefined,
        node: createNode(() => line, { lines, clock, random }),
        onConnected() {},
        onDisconnected() {},
      }
      lines.set(line.peerId, line)
      return line
    },
    remove(peerId, silent) {
      const line = lines.get(peerId)
      if (line === undefined) return
      line.alive = false
      clock.after(silent ? DEAD_LINK_MS : 50, () => leave(line))
    },
  }
}

interface Wires {
  readonly lines: ReadonlyMap<string, Line>
  readonly clock: SimClock
  readonly random: () => number
}

/** What the code under test takes for its libp2p node. */
function createNode(own: () => Line, wires: Wires): SimPeerNode {
  const { lines, clock } = wires
  const wait = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve))
  const travel = (from: Line, to: Line, bytes: number) => wait(send(from, to, bytes, wires))
  const partner = async (peerId: string): Promise<Line> => {
    const other = lines.get(peerId)
    if (other === undefined || !own().connections.has(peerId)) throw unreachable('There is no connection.')
    if (other.alive) return other
    await wait(REQUEST_TIMEOUT_MS)
    throw unreachable('No answer.')
  }
  return {
    get self() {
      return { peerId: own().peerId, addrs: () => [] }
    },
    isConnected: (peerId) => own().connections.has(peerId),
    async handle(_protocol, _options, handler) {
      own().answer = handler
    },
    async connect({ peerId }) {
      const [self, other] = [own(), lines.get(peerId)]
      if (self.connections.has(peerId)) return
      if (other === undefined || !other.alive || other.isBehindNat) {
        await wait(DIAL_TIMEOUT_MS)
        throw unreachable('It cannot be dialled.')
      }
      // TCP, noise, yamux and identify: four more round trips, about 2 KB each way.
      await wait(8 * delayMs(self, other, wires))
      await travel(self, other, CONNECT_BYTES)
      await travel(other, self, CONNECT_BYTES)
      if (!self.alive || !other.alive || self.connections.has(peerId)) return
      self.connections.add(peerId)
      other.connections.add(self.peerId)
      self.onConnected(peerId)
      other.onConnected(self.peerId)
    },
    async ping(peerId) {
      const [self, other] = [own(), await partner(peerId)]
      const rttMs = send(self, other, PING_BYTES, wires) + send(other, self, PING_BYTES, wires)
      await wait(rttMs)
      return rttMs
    },
    async request({ peerId }, _protocol, body) {
      const [self, other] = [own(), await partner(peerId)]
      await travel(self, other, body.length + REQUEST_BYTES)
      const from = { remotePeer: self.peerId, remoteIsLocal: false }
      // A copy, as a socket would make.
      const answered = other.alive ? await other.answer?.(body.slice(), from) : undefined
      if (answered === undefined) throw unreachable('The peer is gone.')
      await travel(other, self, answered.length + REQUEST_BYTES)
      return answered
    },
  }
}

/** Counts the bytes; ms until they have left the one and reached the other. */
function send(from: Line, to: Line, bytes: number, wires: Wires): number {
  const nowMs = wires.clock.monotonicMs()
  from.upFreeMs = Math.max(nowMs, from.upFreeMs) + bytes / UP_BYTES_PER_MS
  from.sentBytes += bytes
  to.receivedBytes += bytes
  return from.upFreeMs - nowMs + delayMs(from, to, wires)
}

function delayMs(a: Line, b: Line, { random }: Wires): number {
  return 2 + Math.hypot(a.place[0] - b.place[0], a.place[1] - b.place[1]) * (1 + random() / 10)
}

function unreachable(what: string): LlmNodeError {
  return new LlmNodeError('PEER_UNREACHABLE', what)
}
