import { LlmNodeError } from '../../../src/base/errors.ts'
import type { CircuitTransport, FrameLink, PeerTarget } from '../../../src/onion/ports.ts'

/** Sees every frame on its way; what it returns goes on: a frame, several, or undefined for none. */
export type Tap = (frame: Uint8Array, from: string, to: string) => Uint8Array | readonly Uint8Array[] | undefined

/** When something arrives: later, and in order for the same `link` (one direction of one). */
export type Deliver = (arrive: () => void, link: object) => void

export interface MemoryNode extends CircuitTransport {
  /** Every peer that was dialled from here, with the addresses tried. */
  readonly dials: PeerTarget[]
  /** Every peer that this node has opened a stream to or got one from. */
  readonly streamPeers: Set<string>
  /** Peers that were sent away. */
  readonly refused: string[]
  /** Opens a stream as a node without the onion layer would. */
  rawLink(peerId: string): FrameLink
}

export interface MemoryNetwork {
  node(peerId: string, options?: { local?: boolean; addrs?: readonly string[]; subnet?: string }): MemoryNode
  /** The process dies: its links end for the others, and it hears and says nothing more. */
  kill(peerId: string): void
  /** The machine is cut off without a word: nothing arrives from it or at it, and no link ends. */
  mute(peerId: string): void
  /** The links that one node opened to another, or that came from it, break; both live. */
  cut(from: string, to: string): void
  /** From now on `send` from one node to the other answers false, until `release`. */
  block(from: string, to: string): void
  release(from: string, to: string): void
  tap: Tap
  /** Links that are open, both ends counted once. */
  readonly openLinks: number
}

interface Hub {
  readonly nodes: Map<string, NodeState>
  readonly dead: Set<string>
  readonly muted: Set<string>
  readonly blocked: Map<string, (() => void)[]>
  readonly links: Set<LinkEnd>
  readonly deliver: Deliver
  tap: Tap
}

interface NodeState {
  readonly peerId: string
  readonly local: boolean
  readonly subnet: string | undefined
  readonly addrs: readonly string[]
  readonly connections: Set<string>
  readonly dials: PeerTarget[]
  readonly streamPeers: Set<string>
  /** Peers that were sent away. */
  readonly refused: string[]
  onLink: (link: FrameLink) => void
}

/** Links in memory: ordered, reliable, delivered by microtasks, so that a test runs the same way every time. */
export function createMemoryNetwork(deliver: Deliver = queueMicrotask): MemoryNetwork {
  const hub: Hub = {
    nodes: new Map(),
    dead: new Set(),
    muted: new Set(),
    blocked: new Map(),
    links: new Set(),
    deliver,
    tap: (frame) => frame,
  }
  return {
    node(peerId, options = {}) {
      const state: NodeState = {
        peerId,
        local: options.local ?? true,
        subnet: options.subnet,
        addrs: options.addrs ?? [`/ip4/127.0.0.1/tcp/${5_000 + hub.nodes.size}`],
        connections: new Set(),
        dials: [],
        streamPeers: new Set(),
        refused: [],
        onLink: (link) => link.abort('nobody listens'),
      }
      hub.nodes.set(peerId, state)
      return createNode(hub, state)
    },
    kill(peerId) {
      hub.dead.add(peerId)
      for (const end of [...hub.links]) if (end.self.peerId === peerId) end.die()
      for (const node of hub.nodes.values()) node.connections.delete(peerId)
    },
    mute: (peerId) => hub.muted.add(peerId),
    cut(from, to) {
      for (const end of [...hub.links]) if (end.self.peerId === from && end.remotePeer === to) end.cut()
    },
    block: (from, to) => hub.blocked.set(`${from} ${to}`, []),
    release(from, to) {
      const waiting = hub.blocked.get(`${from} ${to}`) ?? []
      hub.blocked.delete(`${from} ${to}`)
      for (const resume of waiting) resume()
    },
    get tap() {
      return hub.tap
    },
    set tap(tap) {
      hub.tap = tap
    },
    get openLinks() {
      return hub.links.size / 2
    },
  }
}

function createNode(hub: Hub, self: NodeState): MemoryNode {
  const connect = (target: PeerTarget, signal: AbortSignal): NodeState => {
    signal.throwIfAborted()
    const remote = hub.nodes.get(target.peerId)
    const known = self.connections.has(target.peerId)
    if (!known && target.addrs.length > 0) self.dials.push(target)
    const reached = known || remote?.addrs.some((addr) => target.addrs.includes(addr))
    if (remote === undefined || reached !== true || hub.dead.has(target.peerId)) {
      throw new LlmNodeError('PEER_UNREACHABLE', 'Nobody answers there.')
    }
    self.connections.add(remote.peerId)
    remote.connections.add(self.peerId)
    return remote
  }
  const open = (remote: NodeState): FrameLink => {
    const near = new LinkEnd(hub, self, remote)
    const far = new LinkEnd(hub, remote, self)
    near.join(far)
    hub.deliver(() => remote.onLink(far), near)
    return near
  }
  return {
    self: { peerId: self.peerId, addrs: () => self.addrs },
    dials: self.dials,
    streamPeers: self.streamPeers,
    refused: self.refused,
    isConnected: (peerId) => self.connections.has(peerId),
    async connect(target, { signal }) {
      await hang(hub, target.peerId, signal)
      connect(target, signal)
    },
    async open(target, { signal }) {
      await hang(hub, target.peerId, signal)
      return open(connect(target, signal))
    },
    refuse(peerId) {
      self.refused.push(peerId)
    },
    onLink(handler) {
      self.onLink = handler
    },
    rawLink(peerId) {
      const remote = hub.nodes.get(peerId)
      if (remote === undefined) throw new Error('no such node')
      return open(remote)
    },
  }
}

/** A muted machine does not refuse; it says nothing. */
async function hang(hub: Hub, peerId: string, signal: AbortSignal): Promise<void> {
  if (!hub.muted.has(peerId)) return
  await new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new LlmNodeError('ABORTED', 'Stopped on request.')), { once: true })
  })
}

class LinkEnd implements FrameLink {
  readonly self: NodeState
  readonly remotePeer: string
  readonly remoteIsLocal: boolean
  readonly remoteSubnet: string | undefined
  readonly #hub: Hub
  #far: LinkEnd | undefined
  #ended = false
  #frameHandler: ((frame: Uint8Array) => void) | undefined
  #endHandler: ((error?: Error) => void) | undefined
  #early: Uint8Array[] = []
  #endedWith: { error: Error | undefined } | undefined

  constructor(hub: Hub, self: NodeState, remote: NodeState) {
    this.#hub = hub
    this.self = self
    this.remotePeer = remote.peerId
    this.remoteIsLocal = remote.local
    this.remoteSubnet = remote.subnet
    self.streamPeers.add(remote.peerId)
    hub.links.add(this)
  }

  join(far: LinkEnd): void {
    this.#far = far
    far.#far = this
  }

  send(frame: Uint8Array): boolean {
    if (this.#ended) throw new Error('the link has ended')
    const { muted, dead, blocked } = this.#hub
    const [from, to] = [this.self.peerId, this.remotePeer]
    const lost = muted.has(from) || muted.has(to) || dead.has(from) || dead.has(to)
    const passed = lost ? undefined : this.#hub.tap(frame, from, to)
    for (const one of passed instanceof Uint8Array ? [passed] : (passed ?? [])) {
      this.#hub.deliver(() => this.#far?.receive(one), this)
    }
    return !blocked.has(`${from} ${to}`)
  }

  drained(): Promise<void> {
    const waiting = this.#hub.blocked.get(`${this.self.peerId} ${this.remotePeer}`)
    return waiting === undefined ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))
  }

  onFrame(handler: (frame: Uint8Array) => void): void {
    this.#frameHandler = handler
    const early = this.#early
    this.#early = []
    for (const frame of early) handler(frame)
  }

  onEnd(handler: (error?: Error) => void): void {
    this.#endHandler = handler
    if (this.#endedWith !== undefined) handler(this.#endedWith.error)
  }

  close(): void {
    this.#finish(undefined)
  }

  abort(reason: string): void {
    this.#finish(new Error(reason))
  }

  /** The process at this end dies. */
  die(): void {
    this.#ended = true
    this.#hub.links.delete(this)
    const far = this.#far
    this.#hub.deliver(() => far?.remoteEnded(new Error('connection lost')), this)
  }

  cut(): void {
    const far = this.#far
    this.remoteEnded(new Error('connection lost'))
    far?.remoteEnded(new Error('connection lost'))
  }

  receive(frame: Uint8Array): void {
    if (this.#ended || this.#hub.dead.has(this.self.peerId)) return
    if (this.#frameHandler === undefined) this.#early.push(frame)
    else this.#frameHandler(frame)
  }

  remoteEnded(error: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#hub.links.delete(this)
    this.#endedWith = { error }
    if (!this.#hub.dead.has(this.self.peerId)) this.#endHandler?.(error)
  }

  #finish(error: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#hub.links.delete(this)
    const far = this.#far
    const cut = this.#hub.muted.has(this.self.peerId) || this.#hub.muted.has(this.remotePeer)
    if (!cut) this.#hub.deliver(() => far?.remoteEnded(error), this)
  }
}
