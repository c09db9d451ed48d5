import { toHex } from '../base/bytes.ts'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { onionLimits } from '../base/limits.ts'
import { systemTimers } from '../base/timers.ts'
import { type AnswerCircuit, openAnswerCircuit } from './answer-circuit.ts'
import { createCircuitTable } from './circuit-table.ts'
import { nodeCrypto } from './crypto.ts'
import { createFairTurns } from './fair-turns.ts'
import { createFouls } from './fouls.ts'
import { acceptCircuit } from './hop.ts'
import type { HopContext, RingEnd } from './hop-context.ts'
import { createCreateLimiter, createTokenBucket } from './rate-limit.ts'
import { createReadyRings } from './ready-rings.ts'
import type { HopTarget, Ring, RingCall, RingOptions } from './ring.ts'
import { prepareRing } from './ring-builder.ts'
import type { RingEnds } from './ring-end.ts'
import type { RingSession } from './ring-session.ts'
import type { OnionDeps, OnionLimits, OnionOptions } from './types.ts'

export interface OnionStats {
  /** Circuits of others that pass or end here. */
  readonly relayCircuits: number
  readonly computeCircuits: number
  readonly answerCircuits: number
  readonly halfOpenCircuits: number
  /** Rings that this node holds as entry. */
  readonly openRings: number
  /** Circuits built ahead. */
  readonly readyRings: number
  readonly queuedBytes: number
}

export interface OnionService {
  /** A ring through `options.hops`, over a circuit built ahead where there is one. Errors: see prepareRing, mend; LIMIT. */
  openRing(options: RingOptions, call: RingCall): Promise<Ring>
  /** Builds a circuit for a ring like this ahead, in the background. It reserves no KV. Never throws. */
  prepareRing(options: RingOptions): void
  /** A circuit around one node that answers. Errors: see openAnswerCircuit; LIMIT. */
  openAnswer(hops: readonly HopTarget[], call: { signal: AbortSignal }): Promise<AnswerCircuit>
  stats(): OnionStats
  /** Circuits of others that pass here and on which a frame came within `quietMs`. */
  relaying(quietMs: number): number
  /** Ends every circuit and ring and takes no new one. Idempotent. */
  stop(): Promise<void>
}

/**
 * Circuits of this node, as hop and as entry (docs: protocol.md). Registers itself with the transport at once; `compute`
 * null makes a node that only asks and relays.
 */
export function createOnionService(options: OnionOptions, deps: OnionDeps): OnionService {
  const limits: OnionLimits = { ...onionLimits, ...options.limits }
  const rings = new Set<RingSession>()
  const ends = createRingEnds()
  const context = createContext(options, deps, limits, ends)
  const stopped = new AbortController()
  const onRing = (ring: RingSession) => {
    rings.add(ring)
    void ring.gone.then(() => rings.delete(ring))
  }
  const prepare = (ringOptions: RingOptions, call: RingCall) =>
    prepareRing(context, { ends, onRing, stopped: stopped.signal }, ringOptions, call)
  const ready = createReadyRings(context, (ringOptions, signal) => prepare(ringOptions, { signal }))
  const answers = createAnswerCircuits(context, ends, stopped.signal)
  let building = 0
  deps.transport.onLink((link) => {
    if (stopped.signal.aborted) link.abort('stopped')
    else if (context.fouls.isOut(link.remotePeer)) link.abort('sent away')
    else acceptCircuit(context, link)
  })

  return {
    async openRing(ringOptions, call) {
      if (stopped.signal.aborted) throw new LlmNodeError('ABORTED', 'This node is stopping.')
      if (rings.size + building >= limits.openRings) {
        throw new LlmNodeError('LIMIT', `${limits.openRings} circuits are open already.`, {
          hint: 'Close one, or wait until a generation has finished.',
        })
      }
      building++
      const signal = AbortSignal.any([call.signal, stopped.signal])
      const limited = { ...call, signal }
      try {
        const early = await ready
          .take(ringOptions)
          ?.open(limited)
          .catch((error: unknown) => {
            // It may have stood too long; what a hop refuses now it would refuse again.
            if (signal.aborted || isLlmNodeError(error, 'PEER_REFUSED')) throw error
          })
        return early ?? (await (await prepare(ringOptions, limited)).open(limited))
      } finally {
        building--
      }
    },
    openAnswer: (hops, call) => answers.open(hops, call.signal),
    prepareRing: (ringOptions) => ready.prepare(ringOptions),
    relaying: (quietMs) => context.table.inUse('relay', quietMs),
    stats() {
      const { circuits, queuedBytes } = context.table.counts()
      return {
        relayCircuits: circuits.relay,
        computeCircuits: circuits.compute,
        answerCircuits: circuits.answer,
        halfOpenCircuits: circuits.new + circuits['half-open'],
        openRings: rings.size,
        readyRings: ready.size,
        queuedBytes,
      }
    },
    async stop() {
      stopped.abort()
      ready.clear()
      await Promise.all([...rings].map((ring) => ring.close()))
      context.table.destroyAll('stopped')
    },
  }
}

/** Answers asked for by this node; as many as rings at most. */
function createAnswerCircuits(context: HopContext, ends: RingEnds, stopped: AbortSignal) {
  let open = 0
  return {
    async open(hops: readonly HopTarget[], wanted: AbortSignal): Promise<AnswerCircuit> {
      if (stopped.aborted) throw new LlmNodeError('ABORTED', 'This node is stopping.')
      if (open >= context.limits.openRings) throw new LlmNodeError('LIMIT', `${open} answers are under way already.`)
      open++
      const onEnd = () => void open--
      return await openAnswerCircuit(context, { ends, onEnd }, hops, AbortSignal.any([wanted, stopped]))
    },
  }
}

function createContext(
  options: OnionOptions,
  deps: OnionDeps,
  limits: OnionLimits,
  ends: ReturnType<typeof createRingEnds>,
): HopContext {
  const { clock, transport, compute, logger } = deps
  const table = createCircuitTable(limits, clock)
  const refusals = createTokenBucket(limits.createTotal, clock)
  const timers = deps.timers ?? systemTimers
  return {
    options,
    limits,
    transport,
    compute,
    answers: deps.answers ?? null,
    clock,
    logger,
    table,
    timers,
    fouls: createFouls(limits, clock, (peer, ms) => {
      logger.warn({ peer, seconds: ms / 1_000 }, 'a peer breaks rules again and again and is sent away')
      deps.onSentAway?.(peer)
      // What works with it goes on: only new circuits are refused then.
      if (!table.isUseful(peer)) transport.refuse(peer, ms)
    }),
    relayTurns: createFairTurns(createTokenBucket(limits.relayTotal, clock), timers),
    crypto: deps.crypto ?? nodeCrypto,
    admitCreate: createCreateLimiter(limits, clock),
    admitRefusal: () => refusals.take(1),
    isTrusted: (peer, isLocal) => isLocal || table.inGoodStanding(peer) || (deps.isContact?.(peer) ?? false),
    takeRingEnd: ends.take,
  }
}

/** Rings that wait for their closing CREATE, by (ID, X): accepted once, and only from the last hop. */
function createRingEnds() {
  const waiting = new Map<string, RingEnd>()
  const keyOf = (addressKey: Uint8Array, publicX: Uint8Array) => toHex(addressKey) + toHex(publicX)
  return {
    add(publicX: Uint8Array, end: RingEnd): void {
      waiting.set(keyOf(end.addressKey, publicX), end)
    },
    remove(end: RingEnd): void {
      for (const [key, value] of waiting) if (value === end) waiting.delete(key)
    },
    take(addressKey: Uint8Array, publicX: Uint8Array, peer: string): RingEnd | undefined {
      const key = keyOf(addressKey, publicX)
      const end = waiting.get(key)
      if (end === undefined || end.lastHopPeer !== peer) return undefined
      waiting.delete(key)
      return end
    },
  }
}
