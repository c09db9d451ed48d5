/** What the onion layer needs from the rest of the node, as small structural interfaces (p2p and pipeline provide them). */
import type { Span } from '../base/span.ts'

/** One ordered, reliable byte stream to a peer that the transport has authenticated. The stream is the circuit id. */
export interface FrameLink {
  /** Transport PeerId, base58 or cid text, as the transport proved it. */
  readonly remotePeer: string
  /** The remote end is loopback, link-local or private: LAN rules apply (protocol.md §3). */
  readonly remoteIsLocal: boolean
  /** Public remote address cut to its subnet as text (/24 of IPv4, /48 of IPv6), for rate limits; undefined: unknown. */
  readonly remoteSubnet?: string | undefined
  /**
   * Sends one frame as one contiguous buffer. The link keeps the buffer: the caller never writes into it again. Returns
   * false when the transport's buffer is above its mark: `drained` then resolves when it has emptied, and rejects when
   * the link ended instead. Throws when the link has ended.
   */
  send(frame: Uint8Array): boolean
  drained(): Promise<void>
  /**
   * Frames arrive here, whole, in order, one contiguous buffer each that the handler may keep or send on. Set once,
   * right after the link was obtained; earlier bytes are kept. src/p2p/circuit-frames.ts knows how long a frame is.
   */
  onFrame(handler: (frame: Uint8Array) => void): void
  /** Called once when the link ended in any way. `error` is undefined after a clean end. */
  onEnd(handler: (error?: Error) => void): void
  /** Ends the link: what was sent is still delivered. Idempotent. */
  close(): void
  /** Ends the link at once, dropping what is queued. Idempotent. */
  abort(reason: string): void
}

export interface PeerTarget {
  /** Transport PeerId as text. */
  readonly peerId: string
  /** Multiaddrs as text; empty: only an existing connection. */
  readonly addrs: readonly string[]
}

export interface CircuitTransport {
  /** `addrs`: where others can reach this node now, multiaddrs as text, best first. */
  readonly self: { readonly peerId: string; addrs(): readonly string[] }
  isConnected(peerId: string): boolean
  /** Makes sure that there is a connection, without a stream. Throws PEER_UNREACHABLE, ABORTED. */
  connect(target: PeerTarget, options: { signal: AbortSignal }): Promise<void>
  /** Opens a circuit stream; the transport proves that the far end is `target.peerId`. Throws PEER_UNREACHABLE, ABORTED. */
  open(target: PeerTarget, options: { signal: AbortSignal }): Promise<FrameLink>
  /** Closes the connections to a peer, and lets it make none for so long. */
  refuse(peerId: string, ms: number): void
  /** Inbound circuit streams. */
  onLink(handler: (link: FrameLink) => void): void
}

/** What an answering hop promises in CREATED. */
export interface AnswerOffer {
  readonly idleS: number
  readonly lifeS: number
  readonly queueBytes: number
}

/** A node that generates for a caller it may know nothing about. Implemented by src/node/answering. */
export interface AnswerService {
  /** Answers a CREATE; null: refused (REJECT), 'busy': BUSY. Who asks is not known yet. */
  offer(): AnswerOffer | 'busy' | null
  /**
   * The answer to the circuit's one request, in pieces. `exporter`: 32 bytes that only the two ends know; a caller who
   * wants to be known signs them. A LlmNodeError that is thrown ends the answer with its code.
   */
  answer(request: Uint8Array, call: { exporter: Uint8Array; signal: AbortSignal }): AsyncIterable<Uint8Array>
}

/** What a compute hop promises in CREATED (SM). */
export interface ComputeOffer {
  readonly numericsClass: Uint8Array
  readonly maxContext: number
  readonly idleS: number
  readonly lifeS: number
  readonly queueBytes: number
}

export interface ComputeRequest {
  /** 32 bytes. */
  readonly modelId: Uint8Array
  readonly span: Span
  readonly maxContext: number
  /** 32 bytes; all zero: any class. */
  readonly numericsClass: Uint8Array
}

/** The layers behind a hop. Implemented by src/pipeline/hop-server. */
export interface ComputeService {
  /** Answers a CREATE without reserving anything; null: refused (REJECT), 'busy': BUSY. */
  offer(request: ComputeRequest): ComputeOffer | 'busy' | null
  /** Reserves KV. Throws LlmNodeError KV_FULL, CONTEXT_TOO_LONG or SPAN. `predecessor`: the transport peer, for fairness. */
  open(request: {
    modelId: Uint8Array
    span: Span
    maxContext: number
    longRope: boolean
    predecessor: string
  }): ComputeSession
}

export interface ComputeSession {
  readonly hiddenSize: number
  readonly maxContext: number
  readonly length: number
  /** hidden [nTokens, hiddenSize] f32 in, the same shape out. In call order. Throws LlmNodeError. */
  forward(pos: number, hidden: Float32Array): Promise<Float32Array>
  close(): void
}
