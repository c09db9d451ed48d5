import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { Timers } from '../base/timers.ts'
import type { CircuitTable } from './circuit-table.ts'
import type { CryptoBackend } from './crypto.ts'
import type { FairTurns } from './fair-turns.ts'
import type { Fouls } from './fouls.ts'
import type { OnionKey } from './handshake.ts'
import type { AnswerService, CircuitTransport, ComputeService } from './ports.ts'
import type { CreateSource } from './rate-limit.ts'
import type { OnionLimits, OnionOptions } from './types.ts'

/** The entry's own end of a ring: a closing CREATE reaches it instead of an ordinary hop (protocol.md §4). */
export interface RingEnd {
  /** Keys that the closing CREATE is addressed to. */
  readonly addressKey: Uint8Array
  readonly onionKeys: readonly OnionKey[]
  /** The last hop: nobody else may close the ring. */
  readonly lastHopPeer: string
  /** The circuit that closed the ring: its way out for the entry. */
  attach(circuit: { destroy(reason: string): void }): void
  onData(frame: Uint8Array): void
  onEnd(): void
}

/** What every hop of this node shares. */
export interface HopContext {
  readonly options: OnionOptions
  readonly limits: OnionLimits
  readonly transport: CircuitTransport
  readonly compute: ComputeService | null
  readonly answers: AnswerService | null
  readonly clock: Clock
  readonly timers: Timers
  readonly logger: Logger
  readonly crypto: CryptoBackend
  readonly table: CircuitTable
  readonly fouls: Fouls
  /** What all relayed circuits together may send. */
  readonly relayTurns: FairTurns
  admitCreate(source: CreateSource): boolean
  /** A refusal costs a handshake too: beyond this the stream is just closed. */
  admitRefusal(): boolean
  isTrusted(peer: string, isLocal: boolean): boolean
  /** The open ring with this closing CREATE, once. */
  takeRingEnd(addressKey: Uint8Array, publicX: Uint8Array, peer: string): RingEnd | undefined
}
