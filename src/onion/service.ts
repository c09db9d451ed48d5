import { toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { onionLimits } from '../base/limits.ts'
import { createCircuitTable } from './circuit-table.ts'
import { nodeCrypto } from './crypto.ts'
import { acceptCircuit } from './hop.ts'
import type { HopContext, RingEnd } from './hop-context.ts'
import { createCreateLimiter, createTokenBucket } from './rate-limit.ts'
import type { Ring, RingOptions } from './ring.ts'
import { buildRing } from './ring-builder.ts'
import { systemTimers } from '../base/timers.ts'
import type { OnionDeps, OnionLimits, OnionOptions } from './types.ts'

export interface OnionStats {
  /** Circuits of others that pass or end here. */
  readonly relayCircuits: number
  readonly computeCircuits: number
  readonly halfOpenCircuits: number
  /** Rings that this node holds as entry. */
  readonly openRings: number
  readonly queuedBytes: number
}

export interface OnionService {
  /** Builds a ring through `options.hops`. Errors: see buildRing; LIMIT when too many are open. */
  openRing(options: RingOptions, call: { signal: AbortSignal }): Promise<Ring>
  stats(): OnionStats
  /** Ends every circuit and ring and takes no new one. Idempotent. */
  stop(): Promise<void>
}

/**
 * Circuits of this node, as hop and as entry (docs: protocol.md). Registers itself with the transport at once; `compute`
 * null makes a node that only asks and relays.
 */
export function createOnionService(options: OnionOptions, deps: OnionDeps): OnionService {
  const limits: OnionLimits = { ...onionLimits, ...options.limits }
  const rings = new Set<Ring>()
  const ends = createRingEnds()
  const context = createContext(options, deps, limits, ends)
  let building = 0
  const stopped = new AbortController()
  deps.transport.onLink((link) => {
    if (stopped.signal.aborted) link.abort('stopped')
    else acceptCircuit(context, link)
  })

  return {
    async openRing(ringOptions, { signal }) {
      if (stopped.signal.aborted) throw new LlmNodeError('ABORTED', 'This node is stopping.')
      if (rings.size + building >= limits.openRings) {
        throw new LlmNodeError('LIMIT', `${limits.openRings} circuits are open already.`, {
          hint: 'Close one, or wait until a generation has finished.',
        })
      }
      building++
      try {
        const ring = await buildRing(context, ends, ringOptions, AbortSignal.any([signal, stopped.signal]))
        rings.add(ring)
        ring.ended.then(() => rings.delete(ring))
        return ring
      } finally {
        building--
      }
    },
    stats() {
      const { circuits, queuedBytes } = context.table.counts()
      return {
        relayCircuits: circuits.relay,
        computeCircuits: circuits.compute,
        halfOpenCircuits: circuits.new + circuits['half-open'],
        openRings: rings.size,
        queuedBytes,
      }
    },
    async stop() {
      stopped.abort()
      await Promise.all([...rings].map((ring) => ring.close()))
      context.table.destroyAll('stopped')
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
  return {
    options,
    limits,
    transport,
    compute,
    clock,
    logger,
    table,
    timers: deps.timers ?? systemTimers,
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
