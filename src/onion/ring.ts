import type { LlmNodeError } from '../base/errors.ts'
import type { Span } from '../base/span.ts'
import type { PeerTarget } from './ports.ts'

/** A node on the route, with what its signed contact record says. */
export interface HopTarget extends PeerTarget {
  readonly role: 'relay' | 'compute' | 'answer'
  /** Ed25519 address key, 32 bytes. */
  readonly addressKey: Uint8Array
  /** X25519 onion key, 32 bytes. */
  readonly onionKey: Uint8Array
  /** For compute hops. */
  readonly span?: Span
}

export interface RingOptions {
  readonly hops: readonly HopTarget[]
  readonly modelId: Uint8Array
  readonly hiddenSize: number
  readonly maxContext: number
  /** All zero: any class. */
  readonly numericsClass: Uint8Array
  readonly lifetimeS?: number
  readonly longRope?: boolean
  /**
   * Frames of one row leave at a beat of so many ms, and padding of their size when there is none: neither the rhythm of
   * tokens nor their absence shows on the wire. Prefill goes out as it comes.
   */
  readonly cadenceMs?: number
  /** A break leaves what still stands in place for `mend`; whoever sets this closes the ring when it does not mend. */
  readonly mendable?: boolean
}

/** How a ring is opened. */
export interface RingCall {
  readonly signal: AbortSignal
  /** Hears which hops, by index, one of which holds the opening up; of none when it is done. */
  readonly onWaiting?: ((hops: readonly number[]) => void) | undefined
}

/** Another end for a ring that has broken. */
export interface RingChange {
  /** So many hops from the start stay, with their KV; the last of them computes. */
  readonly keep: number
  /** What comes after them; the layers go on where the kept ones end. */
  readonly hops: readonly HopTarget[]
}

export interface RingResult {
  /** The last `want` rows after the last hop: [want, hiddenSize] f32. Empty for want = 0. */
  readonly hidden: Float32Array
}

/** A closed ring: the circuit leads back to the entry and every hop holds its keys and its KV reservation. */
export interface Ring {
  readonly hops: readonly HopTarget[]
  /** The context granted by every hop. */
  readonly maxContext: number
  /** The most rows a frame may carry (from the smallest queue granted). */
  readonly maxRows: number
  /** Seconds for which every hop keeps the circuit: the entry moves to a new one before (protocol.md §4). */
  readonly lifeS: number
  /**
   * Sends one forward frame around the ring. Several may be under way; they are answered in order. Waits by itself
   * while the smallest grant on the ring is used up; `hidden` must not change before the answer. Throws CIRCUIT_BROKEN, HOP_TIMEOUT, PEER_REFUSED, ABORTED.
   */
  forward(frame: { pos: number; hidden: Float32Array; want: number }): Promise<RingResult>
  /** Milliseconds for each hop's last answer to a PING, by index; null while unknown. */
  readonly hopRttMs: readonly (number | null)[]
  /** Resolves when the ring has ended, with the reason, or undefined after close(). */
  readonly ended: Promise<LlmNodeError | undefined>
  /**
   * After a break, for `mendMs` at most: cuts the circuit behind the hops that are kept and goes on from there over others
   * (protocol.md §6), under fresh keys. The new ring takes this one's place. New compute hops hold no KV: forward begins
   * at position 0 then; kept ones take that as a rollback. Only with `mendable`. Throws LIMIT when too much is under way
   * or the circuit has been extended too often, BAD_INPUT, and what building throws; the circuit is gone then.
   */
  mend(change: RingChange, call: { signal: AbortSignal }): Promise<Ring>
  close(): Promise<void>
}
