import { LlmNodeError } from '../base/errors.ts'
import { formatSpan, type Span, spanLength } from '../base/span.ts'
import { gapsWithin, type LayerHolder } from './map.ts'

export interface RouteRequest {
  /** The layers that the ring has to compute. */
  readonly span: Span
  /** KV positions that every hop must be able to reserve. */
  readonly maxContext: number
  readonly maxHops: number
  /** For the error's words. */
  readonly modelName: string
  /** Addresses to leave out. */
  readonly excluded?: ReadonlySet<string>
  /** Ms that a link is to count more: what failed is used only when nothing else is there. null: this node. */
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
  /** Two addresses that must not both be on the route. */
  readonly clash?: ((a: string, b: string) => boolean) | undefined
}

export interface RouteHop {
  readonly holder: LayerHolder
  readonly span: Span
}

export interface Route {
  readonly hops: readonly RouteHop[]
  /** Estimate of one decode step over the ring in ms: links there and back, and every hop's computing. */
  readonly decodeMs: number
  /** Sum of the request's penalties on this route; no part of the estimate. */
  readonly penaltyMs: number
}

/** What a link and a hop cost where nothing has been measured. Times in ms. */
const UNKNOWN_RTT_MS = 150
/** One frame's sealing, sending and opening beyond the wire (bench/hop.ts). */
const HOP_OVERHEAD_MS = 0.5
/** A relayed link carries a fifth of a direct one (Petals PR #428): its latency counts five times. */
const RELAY_FACTOR = 5
/** A hop that may refuse for want of KV is taken only when nothing else is there. */
const SHORT_KV_MS = 10_000

/** The best way found to one holder that is about to begin at a layer. */
interface Step {
  readonly holder: LayerHolder
  readonly layer: number
  /** Ms up to this point, the link to the holder included, its computing not. */
  readonly costMs: number
  readonly before: Step | undefined
}

/**
 * The cheapest chain of at most `maxHops` holders over `span`: shortest paths over (holder, layer at which it begins),
 * hop by hop. A holder is left at its end or where another holder's span begins. Pure. Throws COVERAGE_GAP naming the
 * layers nobody serves, COVERAGE_FRAGMENTED when only longer chains exist.
 */
export function findRoute(holders: readonly LayerHolder[], request: RouteRequest): Route {
  const { span, maxHops } = request
  const usable = holders.filter((holder) => holder.state === 'online' && !request.excluded?.has(holder.address))
  const gaps = gapsWithin(usable, span)
  if (gaps.length > 0) throw gapError(gaps, request)
  const borders = [...new Set(usable.flatMap((holder) => [holder.span.start, holder.span.end]))].sort((a, b) => a - b)
  let frontier = beginAt(usable, request)
  let best: { step: Step; costMs: number } | undefined
  for (let hop = 1; hop <= maxHops && frontier.size > 0; hop++) {
    const arrivals = new Map<number, Arrivals>()
    for (const step of frontier.values()) {
      for (const layer of borders) {
        const end = Math.min(layer, span.end)
        if (end <= step.layer || end > step.holder.span.end) continue
        const costMs = step.costMs + computeMs(step.holder, end - step.layer, request)
        if (end === span.end) {
          const totalMs = costMs + homeMs(step.holder, request)
          if (best === undefined || totalMs < best.costMs) best = { step, costMs: totalMs }
          break
        }
        noteArrival(arrivals, end, step, costMs)
      }
      // A span that reaches beyond the wanted end has no border there.
      if (step.holder.span.end > span.end && !borders.includes(span.end)) {
        const costMs = step.costMs + computeMs(step.holder, span.end - step.layer, request)
        const totalMs = costMs + homeMs(step.holder, request)
        if (best === undefined || totalMs < best.costMs) best = { step, costMs: totalMs }
      }
    }
    frontier = advance(usable, arrivals, request)
  }
  if (best === undefined) throw fragmentedError(request)
  const hops = unroll(best.step, span.end)
  const penaltyMs = penaltyOf(hops, request)
  return { hops, decodeMs: best.costMs - penaltyMs, penaltyMs }
}

function penaltyOf(hops: readonly RouteHop[], { penaltyMs }: RouteRequest): number {
  if (penaltyMs === undefined) return 0
  const stops = [null, ...hops.map(({ holder }) => holder.address), null]
  return stops.slice(1).reduce((sum, to, index) => sum + penaltyMs(stops[index] ?? null, to), 0)
}

/** The cheapest arrival at a layer, and each holder's own: a known link may beat the cheapest with an unknown one. */
interface Arrivals {
  cheapest: { step: Step; costMs: number }
  readonly byAddress: Map<string, { step: Step; costMs: number }>
}

function noteArrival(arrivals: Map<number, Arrivals>, layer: number, step: Step, costMs: number): void {
  const entry = { step, costMs }
  const at = arrivals.get(layer)
  if (at === undefined) {
    arrivals.set(layer, { cheapest: entry, byAddress: new Map([[step.holder.address, entry]]) })
    return
  }
  if (costMs < at.cheapest.costMs) at.cheapest = entry
  const own = at.byAddress.get(step.holder.address)
  if (own === undefined || costMs < own.costMs) at.byAddress.set(step.holder.address, entry)
}

function beginAt(holders: readonly LayerHolder[], { span, penaltyMs }: RouteRequest): Map<string, Step> {
  const layer = span.start
  const steps = new Map<string, Step>()
  for (const holder of holders) {
    if (holder.span.start > layer || layer >= holder.span.end) continue
    const costMs = linkMs(holder.rttMs, holder) + (penaltyMs?.(null, holder.address) ?? 0)
    steps.set(holder.address, { holder, layer, costMs, before: undefined })
  }
  return steps
}

function advance(
  holders: readonly LayerHolder[],
  arrivals: ReadonlyMap<number, Arrivals>,
  request: RouteRequest,
): Map<string, Step> {
  const frontier = new Map<string, Step>()
  for (const [layer, { cheapest, byAddress }] of arrivals) {
    for (const holder of holders) {
      if (holder.span.start > layer || layer >= holder.span.end) continue
      let best = arriveFrom(cheapest, holder, null, request)
      for (const [address, rttMs] of holder.neighbourRttMs) {
        const from = byAddress.get(address)
        if (from === undefined) continue
        const candidate = arriveFrom(from, holder, rttMs, request)
        if (best === undefined || (candidate !== undefined && candidate.costMs < best.costMs)) best = candidate
      }
      if (isPenalised(cheapest.step, holder, request)) best = cheapestOf(byAddress, holder, request) ?? best
      if (best === undefined) continue
      frontier.set(`${layer} ${holder.address}`, { holder, layer, costMs: best.costMs, before: best.step })
    }
  }
  return frontier
}

function isPenalised(from: Step, to: LayerHolder, { penaltyMs }: RouteRequest): boolean {
  return (penaltyMs?.(from.holder.address, to.address) ?? 0) > 0
}

/** Over every arrival: rare, and then the way around counts more than the time to find it. */
function cheapestOf(arrivals: Arrivals['byAddress'], holder: LayerHolder, request: RouteRequest) {
  let best: { step: Step; costMs: number } | undefined
  for (const from of arrivals.values()) {
    const rttMs = holder.neighbourRttMs.get(from.step.holder.address) ?? null
    const candidate = arriveFrom(from, holder, rttMs, request)
    if (best === undefined || (candidate !== undefined && candidate.costMs < best.costMs)) best = candidate
  }
  return best
}

function arriveFrom(
  from: { step: Step; costMs: number },
  holder: LayerHolder,
  rttMs: number | null,
  { penaltyMs, clash }: RouteRequest,
): { step: Step; costMs: number } | undefined {
  if (usedBefore(from.step, holder.address, clash)) return undefined
  const known = rttMs ?? from.step.holder.neighbourRttMs.get(holder.address) ?? null
  const penalty = penaltyMs?.(from.step.holder.address, holder.address) ?? 0
  return { step: from.step, costMs: from.costMs + linkMs(known, holder) + penalty }
}

/** The link from the last hop back to this node. */
function homeMs(holder: LayerHolder, { penaltyMs }: RouteRequest): number {
  return linkMs(holder.rttMs, holder) + (penaltyMs?.(holder.address, null) ?? 0)
}

/** No identity is on a circuit twice (protocol.md §4). */
function usedBefore(step: Step | undefined, address: string, clash: RouteRequest['clash']): boolean {
  for (let at = step; at !== undefined; at = at.before) {
    if (at.holder.address === address || clash?.(at.holder.address, address)) return true
  }
  return false
}

function linkMs(rttMs: number | null, holder: LayerHolder): number {
  return ((rttMs ?? UNKNOWN_RTT_MS) / 2) * (holder.relayed ? RELAY_FACTOR : 1) + HOP_OVERHEAD_MS
}

function computeMs(holder: LayerHolder, layers: number, { maxContext }: RouteRequest): number {
  return holder.decodeMs * layers + (holder.freeKvTokens < maxContext ? SHORT_KV_MS : 0)
}

function unroll(last: Step, end: number): RouteHop[] {
  const hops: RouteHop[] = []
  let until = end
  for (let step: Step | undefined = last; step !== undefined; step = step.before) {
    hops.unshift({ holder: step.holder, span: { start: step.layer, end: until } })
    until = step.layer
  }
  return hops
}

function gapError(gaps: readonly Span[], { modelName }: RouteRequest): LlmNodeError {
  const layers = gaps.map(formatSpan).join(', ')
  const one = gaps.length === 1 && gaps[0] !== undefined && spanLength(gaps[0]) === 1
  return new LlmNodeError(
    'COVERAGE_GAP',
    `Layer${one ? '' : 's'} ${layers} of ${modelName} ${one ? 'is' : 'are'} held by nobody.`,
    {
      hint: `You could hold ${one ? 'it' : 'them'}: llm-node setup --layers ${gaps[0] === undefined ? '' : formatSpan(gaps[0])}`,
      meta: { layers: gaps.map(formatSpan) },
    },
  )
}

function fragmentedError({ modelName, maxHops }: RouteRequest): LlmNodeError {
  return new LlmNodeError(
    'COVERAGE_FRAGMENTED',
    `Every layer of ${modelName} is held, but only in pieces that need more than ${maxHops} hops.`,
    { hint: 'A node with a longer span closes this: llm-node setup --layers …', meta: { maxHops } },
  )
}
