import { formatSpan, type Span, spanLength } from '../base/span.ts'
import type { LayerHolder } from './map.ts'
import { linkMs, rttBetween, shortKvMs } from './route-costs.ts'
import type { SearchRequest } from './route-nodes.ts'

interface PlacedHop {
  readonly holder: LayerHolder
  readonly span: Span
  readonly before: LayerHolder | undefined
  readonly after: LayerHolder | undefined
}

/** Costs that differ by less than this share are called equal. */
const EQUAL_SHARE = 0.1

/** Why this holder computes these layers, in a few words, beside all others that could do the same in its place. */
export function reasonOf(
  hop: PlacedHop,
  holders: readonly LayerHolder[],
  request: Pick<SearchRequest, 'maxContext' | 'penaltyMs' | 'penalised'>,
): string {
  const { holder, span } = hop
  const others = holders.filter(
    (other) => other.address !== holder.address && other.span.start <= span.start && other.span.end >= span.end,
  )
  if (others.length === 0) return `alone in holding ${formatSpan(span)}`
  const sound = others.filter((other) => penaltyOf({ ...hop, holder: other }, request) === 0)
  const failed = others.length - sound.length
  const note = failed === 0 ? '' : `; ${failed} failed lately`
  if (sound.length === 0) return `the one of ${others.length + 1} that has not failed lately`
  const ownMs = costOf(hop, request)
  const costs = sound.map((other) => costOf({ ...hop, holder: other }, request))
  const all = sound.length + 1
  const near = costs.filter((ms) => Math.abs(ms - ownMs) <= EQUAL_SHARE * ownMs).length
  const faster = costs.filter((ms) => ms < ownMs * (1 - EQUAL_SHARE)).length
  if (faster > 0) return `fits this route; ${faster} of ${all} would be faster alone${note}`
  if (near > 0) return `one of ${near + 1} about equally fast${note}`
  return `fastest of ${all}${note}`
}

function penaltyOf(
  { holder, before, after }: PlacedHop,
  { penaltyMs, penalised }: Pick<SearchRequest, 'penaltyMs' | 'penalised'>,
): number {
  if (penaltyMs === undefined || penalised?.size === 0) return 0
  return penaltyMs(before?.address ?? null, holder.address) + penaltyMs(holder.address, after?.address ?? null)
}

/** Its links to both sides and its computing. */
function costOf({ holder, span, before, after }: PlacedHop, { maxContext }: Pick<SearchRequest, 'maxContext'>): number {
  const inMs = linkMs(before === undefined ? holder.rttMs : rttBetween(before, holder), holder)
  const outMs = after === undefined ? linkMs(holder.rttMs, holder) : linkMs(rttBetween(holder, after), after)
  return inMs + holder.decodeMs * spanLength(span) + shortKvMs(holder, maxContext) + outMs
}
