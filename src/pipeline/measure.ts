import { spanLength } from '../base/span.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { SpanRunner } from '../shard/runner.ts'

/** What one layer costs here, for adverts and estimates. */
export interface LayerCost {
  /** Milliseconds of one decode step (one row) per layer. */
  readonly decodeMs: number
  /** Milliseconds per row of a prefill chunk, per layer. */
  readonly prefillMs: number
}

/** Choosing a token and telling it, and waking the engine for the next one: ms (measured, whatever the model). */
export const TOKEN_MS = 0.4
const DECODE_STEPS = 8
/** More than eight while they take no longer than that: a moment's hindrance shall not decide. */
const DECODE_MS = 250
const MOST_STEPS = 40
/** The first steps pay for page faults. */
const WARM_UP_STEPS = 4
const PREFILL_ROWS = 32

/**
 * Runs steps on a session of its own: as many as it takes for a median that is worth something, well under 1 s; or `steps`
 * of them, and then their mean, as tokens per second are one.
 */
export async function measureLayerCost(runner: SpanRunner, steps?: number): Promise<LayerCost> {
  const { hiddenSize, maxContext } = runner.spec
  const most = Math.min(steps ?? MOST_STEPS, maxContext - 1)
  const rows = Math.min(PREFILL_ROWS, maxContext - most)
  const session = runner.openSession({ span: runner.span, maxContext: rows + most })
  try {
    // Any finite values will do; a repeating ramp keeps the row quantisation busy as real rows do.
    const hidden = Float32Array.from({ length: rows * hiddenSize }, (_, i) => ((i % 23) - 11) / 11)
    const prefill = await timed(() => session.forward(0, hidden))
    const decode: number[] = []
    const startedMs = performance.now()
    const isEnough = () => steps === undefined && performance.now() - startedMs > DECODE_MS
    for (let step = 0; step < most && !(step >= DECODE_STEPS && isEnough()); step++) {
      decode.push(await timed(() => session.forward(rows + step, hidden.subarray(0, hiddenSize))))
    }
    const layers = spanLength(runner.span)
    const typicalMs = steps === undefined ? median(decode) : mean(decode.slice(WARM_UP_STEPS))
    return { decodeMs: typicalMs / layers, prefillMs: prefill / rows / layers }
  } finally {
    session.close()
  }
}

/** Ms of embedding and head for one token: the median of a few, after one that pays for page faults. */
export async function measureEndsMs(ends: Pick<ModelEnds, 'embed' | 'logits'>): Promise<number> {
  const step = () => timed(async () => ends.logits(await ends.embed([0])))
  await step()
  const steps: number[] = []
  for (let i = 0; i < DECODE_STEPS; i++) steps.push(await step())
  return median(steps)
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return performance.now() - startedMs
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length)
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? 0
}
