import type { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { Span } from '../base/span.ts'
import type { Ring } from '../onion/ring.ts'
import type { KvSession } from '../shard/runner.ts'

/** One stop on a chain's way, for people and for `ask --json`. */
export interface ChainHop {
  readonly span: Span
  /** `.llm` address of the hop; null: this process. */
  readonly address: string | null
  /** Measured or advertised milliseconds of one decode step over this span; null while unknown. */
  readonly ms: number | null
  /** Estimated milliseconds of the link to it; null: none. */
  readonly linkMs: number | null
  /** Why it computes this span, in a few words. */
  readonly reason: string
}

/** Everything between the embedding and the final norm, as one function of rows. */
export interface Chain {
  readonly hops: readonly ChainHop[]
  readonly maxContext: number
  /** The most rows one frame may carry. */
  readonly maxRows: number
  /** Seconds for which it can be used. */
  readonly lifeS: number
  /** Several frames may be under way; they are answered in order, each with the last `want` rows: [want, hiddenSize]. */
  forward(frame: { pos: number; hidden: Float32Array; want: number }): Promise<Float32Array>
  /** Resolves when the chain can no longer be used, with the reason, or undefined after close(). */
  readonly ended: Promise<LlmNodeError | undefined>
  close(): Promise<void>
}

/** Layers that run in this process. */
export function createLocalChain(session: KvSession, hiddenSize: number, maxRows: number): Chain {
  let end: (reason?: LlmNodeError) => void = () => {}
  const ended = new Promise<LlmNodeError | undefined>((resolve) => {
    end = resolve
  })
  let spentMs = 0
  let steps = 0
  return {
    get hops() {
      const ms = steps === 0 ? null : spentMs / steps
      return [{ span: session.span, address: null, ms, linkMs: null, reason: 'held here' }]
    },
    maxContext: session.maxContext,
    maxRows,
    lifeS: Number.POSITIVE_INFINITY,
    async forward({ pos, hidden, want }) {
      const startedMs = performance.now()
      const rows = await session.forward(pos, hidden)
      if (hidden.length <= hiddenSize * pipelineLimits.decodeRows) {
        spentMs += performance.now() - startedMs
        steps++
      }
      return rows.subarray(rows.length - want * hiddenSize)
    },
    ended,
    async close() {
      session.close()
      end()
    },
  }
}

/** Layers that run on the hops of a ring. `describe` tells how each compute hop, counted without relays, appears to the user. */
export function createRingChain(ring: Ring, describe: (computeIndex: number) => ChainHop): Chain {
  const computeHops = ring.hops.flatMap((hop, index) => (hop.role === 'compute' ? [index] : []))
  return {
    get hops() {
      return computeHops.map((_, index) => describe(index))
    },
    maxContext: ring.maxContext,
    maxRows: overlappingRows(ring.maxRows, computeHops.length),
    lifeS: ring.lifeS,
    forward: async (frame) => (await ring.forward(frame)).hidden,
    ended: ring.ended,
    close: () => ring.close(),
  }
}

/**
 * Rows of a frame, so that a long prompt keeps all hops busy: what may be under way at once holds a frame for each of
 * them, and two on their way. Of a model of 4,096 columns the whole of it would be a frame or two.
 */
function overlappingRows(maxRows: number, nHops: number): number {
  return Math.min(maxRows, Math.max(pipelineLimits.decodeRows, Math.floor(maxRows / (nHops + 2))))
}

/**
 * Chains one after the other: a leading span at home, the ring, a trailing span at home. A frame enters the next part as
 * soon as the part before has answered it, so the parts work on consecutive frames at the same time.
 */
export function joinChains(parts: readonly [Chain, ...Chain[]], hiddenSize: number): Chain {
  if (parts.length === 1) return parts[0]
  const last = parts.length - 1
  return {
    get hops() {
      return parts.flatMap((part) => part.hops)
    },
    maxContext: Math.min(...parts.map((part) => part.maxContext)),
    maxRows: Math.min(...parts.map((part) => part.maxRows)),
    lifeS: Math.min(...parts.map((part) => part.lifeS)),
    async forward({ pos, hidden, want }) {
      const rows = hidden.length / hiddenSize
      let current = hidden
      for (const [index, part] of parts.entries()) {
        current = await part.forward({ pos, hidden: current, want: index === last ? want : rows })
      }
      return current
    },
    ended: Promise.race(parts.map((part) => part.ended)),
    async close() {
      await Promise.all(parts.map((part) => part.close()))
    },
  }
}
