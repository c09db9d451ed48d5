import type { Span } from '../base/span.ts'

export type ServingState = 'joining' | 'online' | 'draining'

/** One peer's layers of one model, as its advert says and as seen from here. Plain data: what map and route work on. */
export interface LayerHolder {
  /** `.llm` address: the peer's identity. */
  readonly address: string
  readonly span: Span
  readonly state: ServingState
  /** Hexadecimal; only holders of one class form an exact pipeline. */
  readonly numericsClass: string
  /** Measured ms per layer of one decode step. */
  readonly decodeMs: number
  readonly freeKvTokens: number
  /** Reached through a relay. */
  readonly relayed: boolean
  /** Round trip from this node in ms; null while unknown. */
  readonly rttMs: number | null
  /** Round trips in ms to other holders, by their address. */
  readonly neighbourRttMs: ReadonlyMap<string, number>
}

/** Who holds what of one model: replicas per layer and the layers nobody holds. */
export interface CoverageMap {
  /** Holders that serve each layer now; joining and draining ones do not count. */
  readonly replicas: readonly number[]
  readonly gaps: readonly Span[]
}

export function mapCoverage(holders: readonly LayerHolder[], nLayers: number): CoverageMap {
  const replicas = new Array<number>(nLayers).fill(0)
  for (const { span, state } of holders) {
    if (state !== 'online') continue
    for (let layer = span.start; layer < Math.min(span.end, nLayers); layer++)
      replicas[layer] = (replicas[layer] ?? 0) + 1
  }
  return { replicas, gaps: runsOf(replicas, (count) => count === 0) }
}

/** The layers of `span` that no holder serves, as spans in order. */
export function gapsWithin(holders: readonly LayerHolder[], span: Span): readonly Span[] {
  const { replicas } = mapCoverage(holders, span.end)
  return runsOf(replicas, (count, layer) => layer >= span.start && count === 0)
}

function runsOf(counts: readonly number[], wanted: (count: number, layer: number) => boolean): Span[] {
  const runs: Span[] = []
  let start = -1
  for (let layer = 0; layer <= counts.length; layer++) {
    const inside = layer < counts.length && wanted(counts[layer] ?? 0, layer)
    if (inside && start < 0) start = layer
    if (!inside && start >= 0) {
      runs.push({ start, end: layer })
      start = -1
    }
  }
  return runs
}
