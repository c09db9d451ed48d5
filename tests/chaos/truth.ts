/** Whether what an answer says of its end is true, by what was done to the nodes. Pure. */
import type { Span } from '../../src/base/span.ts'

/** From when until when a node could be used; `toMs` null: it still can. */
export interface Life {
  readonly name: string
  readonly span: Span
  readonly fromMs: number
  readonly toMs: number | null
}

export interface Ending {
  readonly code: string
  /** Ways that failed since the last text. */
  readonly failovers: number
  /** When the last text came, and when it ended. */
  readonly lastTextMs: number
  readonly endedMs: number
}

/** How long after a loss an answer may still tell of it: a step's deadline, the tries over what failed, the grace. */
const TOLD_MS = 15_000
/** How long it takes until everybody knows of somebody who has come. */
const KNOWN_MS = 3_000

const gaps = new Set(['COVERAGE_GAP', 'COVERAGE_FRAGMENTED'])
const broken = new Set(['CIRCUIT_BROKEN', 'HOP_TIMEOUT', 'PEER_REFUSED', 'PEER_UNREACHABLE', 'AUTH_FAILED'])

/** Why the error is not true; null: it is. `limits`: when an interruption ends an answer (src/base/pipeline-limits.ts). */
export function untruth(
  { code, failovers, lastTextMs, endedMs }: Ending,
  lives: readonly Life[],
  limits: { readonly nLayers: number; readonly routesTried: number; readonly recoverMs: number },
): string | null {
  const fromMs = endedMs - TOLD_MS
  if (gaps.has(code)) {
    return wasGapped(lives, limits.nLayers, fromMs, endedMs) ? null : `${code}, and every layer was held all the time`
  }
  if (!broken.has(code)) return `${code} is nothing that churn can do`
  const enough = failovers >= limits.routesTried || endedMs - lastTextMs >= limits.recoverMs
  return enough ? null : `${code} after ${failovers} ways and ${Math.round(endedMs - lastTextMs)} ms only`
}

/** Some layer was held by nobody at some moment. */
function wasGapped(lives: readonly Life[], nLayers: number, fromMs: number, toMs: number): boolean {
  // Between two of these moments nothing changes.
  const ends = lives.flatMap((life) => [life.fromMs + KNOWN_MS, life.toMs ?? toMs])
  const moments = [fromMs, ...ends.filter((ms) => ms > fromMs && ms <= toMs)]
  return moments.some((ms) => {
    const there = lives.filter((life) => life.fromMs + KNOWN_MS <= ms && (life.toMs === null || life.toMs > ms))
    return Array.from({ length: nLayers }, (_, layer) => layer).some(
      (layer) => !there.some(({ span }) => span.start <= layer && layer < span.end),
    )
  })
}
