import { onionLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import { type LayerHolder, mapCoverage } from '../coverage/map.ts'
import { findRoute } from '../coverage/route.ts'
import type { SpeedEstimate } from '../pipeline/experience.ts'
import { TOKEN_MS } from '../pipeline/measure.ts'

export interface EstimateFacts {
  readonly nLayers: number
  /** Layers that fit here. */
  readonly fits: number
  /** Ms of one decode step per layer here; null: not measured. */
  readonly own: number | null
  /** Cost of the head, in layers: both read their weights once a token. */
  readonly headShare: number
  /** What this node would hold. */
  readonly span: Span | null
  readonly holders: readonly LayerHolder[]
}

/** What one session would get, before anything is fetched; `split`: through the swarm with this node in it. Pure. */
export function estimateSpeed({ nLayers, fits, own, headShare, span, holders }: EstimateFacts): SpeedEstimate {
  if (own === null) return { solo: null, split: null }
  const endsMs = own * headShare + TOKEN_MS
  const solo = fits < nLayers ? null : 1_000 / (own * nLayers + endsMs)
  // A node that would hold everything asks itself: what the others would do without it is the comparison.
  const all = span === null || spanLength(span) === nLayers ? holders : [...holders, ownHolder(span, own, holders)]
  if (holders.length === 0 || mapCoverage(all, nLayers).gaps.length > 0) return { solo, split: null }
  try {
    const request = { span: { start: 0, end: nLayers }, maxContext: 1, maxHops: onionLimits.computeHops, modelName: '' }
    return { solo, split: 1_000 / (findRoute(all, request).decodeMs + endsMs) }
  } catch {
    // Every layer is held, in too many pieces.
    return { solo, split: null }
  }
}

function ownHolder(span: Span, decodeMs: number, others: readonly LayerHolder[]): LayerHolder {
  const known = others.flatMap(({ address, rttMs }) => (rttMs === null ? [] : [[address, rttMs] as const]))
  return {
    address: '',
    span,
    state: 'online',
    numericsClass: '',
    decodeMs,
    freeKvTokens: Number.POSITIVE_INFINITY,
    relayed: false,
    rttMs: 0,
    neighbourRttMs: new Map(known),
  }
}
