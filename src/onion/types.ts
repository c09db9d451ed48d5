import type { Clock } from '../base/clock.ts'
import type { onionLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Timers } from '../base/timers.ts'
import type { CryptoBackend } from './crypto.ts'
import type { OnionKey } from './handshake.ts'
import type { AnswerService, CircuitTransport, ComputeService } from './ports.ts'

export interface Rate {
  readonly perS: number
  readonly burst: number
}

/** onionLimits with room for other numbers. */
export type OnionLimits = {
  readonly [K in keyof typeof onionLimits]: (typeof onionLimits)[K] extends number ? number : Rate
}

/** The part of the node's identity that circuits need; src/p2p/identity.ts has it. */
export interface OnionIdentity {
  /** Ed25519 address key, 32 bytes. */
  readonly addressKey: Uint8Array
  /** The current onion key first, then the previous one while it is still answered. */
  onionKeys(nowMs: number): readonly [OnionKey, ...OnionKey[]]
}

export interface OnionOptions {
  readonly identity: OnionIdentity
  /** VER of the handshake (src/p2p/network.ts, networkVersion): nodes of other networks cannot answer. */
  readonly network: string
  /** Forwards circuits for others, now. */
  relay(): boolean
  /** A local network: private addresses may be dialled for a neighbour that has one itself (protocol.md §3). */
  readonly lan: boolean
  /**
   * True while a contact record with `identity`'s keys can be found by others; rings are closed under one-time keys
   * otherwise.
   */
  published(): boolean
  readonly limits?: Partial<OnionLimits>
}

export interface OnionDeps {
  readonly transport: CircuitTransport
  /** Null: this node computes nothing for others. */
  readonly compute: ComputeService | null
  /** Absent: this node generates for nobody else. */
  readonly answers?: AnswerService
  readonly clock: Clock
  readonly logger: Logger
  readonly timers?: Timers
  readonly crypto?: CryptoBackend
  /** Known to the user: has higher limits than a stranger. */
  isContact?(peerId: string): boolean
  /** It has broken so many rules that it was sent away. */
  onSentAway?(peerId: string): void
}
