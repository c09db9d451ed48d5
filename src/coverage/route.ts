import { LlmNodeError } from '../base/errors.ts'
import { formatSpan, type Span, spanLength } from '../base/span.ts'
import { gapsWithin, type LayerHolder } from './map.ts'
import { linkMs, rttBetween, shortKvMs } from './route-costs.ts'
import type { FoundHop } from './route-nodes.ts'
import { reasonOf } from './route-reason.ts'
import { searchRoute } from './route-search.ts'

export interface RouteRequest {
  /** The layers that the ring has to compute. */
  readonly span: Span
  /** KV positions that every hop must be able to reserve. */
  readonly maxContext: number
  readonly maxHops: number
  /** For the error's words. */
  readonly modelName: string
  /** Addresses to leave out. */
  readonly excluded?: ReadonlySet<string> | undefined
  /** Ms that a link is to count more: what failed is used only when nothing else is there. null: this node. */
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
  /** Addresses without which `penaltyMs` is 0 for a link; absent: nobody knows. */
  readonly penalised?: ReadonlySet<string> | undefined
  /** Two addresses that must not both be on the route. */
  readonly clash?: ((a: string, b: string) => boolean) | undefined
  /** In [0, 1): spreads requests over routes that are about equally fast. Absent: always the fastest. */
  readonly random?: (() => number) | undefined
}

export interface RouteHop {
  readonly holder: LayerHolder
  readonly span: Span
  /** Estimates of one decode step in ms: the link to this hop, and its computing. */
  readonly linkMs: number
  readonly computeMs: number
  /** The link's round trip has been measured, here or by one of its ends. */
  readonly linkKnown: boolean
  /** Why this one: for people. */
  readonly reason: string
}

export interface Route {
  readonly hops: readonly RouteHop[]
  /** Estimate of one decode step over the ring in ms: links there and back, and every hop's computing. */
  readonly decodeMs: number
  /** Of that, the link from the last hop back to this node. */
  readonly homeMs: number
  /** Sum of the request's penalties on this route; no part of the estimate. */
  readonly penaltyMs: number
}

/** With `random`, a route costs at most so much more than the fastest one that the search finds. */
export const SPREAD_SHARE = 0.05

/**
 * The cheapest chain of at most `maxHops` holders over `span`. A holder is left at any layer where that is better. With
 * `random` every holder's costs are raised by up to `SPREAD_SHARE` for the search, so equal ones take turns and no route
 * is worse than that share. Pure. Throws COVERAGE_GAP naming the layers nobody serves, COVERAGE_FRAGMENTED when only
 * longer chains exist.
 */
export function findRoute(holders: readonly LayerHolder[], request: RouteRequest): Route {
  const { span, random } = request
  const usable = holders.filter(
    (holder) =>
      holder.state === 'online' &&
      !request.excluded?.has(holder.address) &&
      holder.span.start < span.end &&
      holder.span.end > span.start,
  )
  const gaps = gapsWithin(usable, span)
  if (gaps.length > 0) throw gapError(gaps, request)
  const factors = random === undefined ? undefined : usable.map(() => 1 + SPREAD_SHARE * random())
  const found = searchRoute(usable, { ...request, factors })
  if (found === undefined) throw fragmentedError(request)
  const route = describeRoute(usable, found.hops, request)
  // Mostly it is nearly as good as can be. Where it is not, the raised costs may have hidden the good ways.
  if (factors === undefined || found.overMs <= SPREAD_SHARE * found.leastMs) return route
  const fastest = searchRoute(usable, request)
  const other = fastest === undefined ? route : describeRoute(usable, fastest.hops, request)
  const costMs = ({ decodeMs, penaltyMs }: Route) => decodeMs + penaltyMs
  return costMs(route) <= (1 + SPREAD_SHARE) * costMs(other) ? route : other
}

function describeRoute(holders: readonly LayerHolder[], found: readonly FoundHop[], request: RouteRequest): Route {
  const { span, maxContext, penaltyMs } = request
  const way = found.flatMap(({ index, start }, at) => {
    const holder = holders[index]
    return holder === undefined ? [] : [{ holder, span: { start, end: found[at + 1]?.start ?? span.end } }]
  })
  const hops = way.map((hop, at): RouteHop => {
    const before = way[at - 1]?.holder
    const after = way[at + 1]?.holder
    const rttMs = before === undefined ? hop.holder.rttMs : rttBetween(before, hop.holder)
    return {
      ...hop,
      linkMs: linkMs(rttMs, hop.holder),
      linkKnown: rttMs !== null,
      computeMs: hop.holder.decodeMs * spanLength(hop.span) + shortKvMs(hop.holder, maxContext),
      reason: reasonOf({ ...hop, before, after }, holders, request),
    }
  })
  const last = hops.at(-1)?.holder
  const homeMs = last === undefined ? 0 : linkMs(last.rttMs, last)
  const stops = [null, ...hops.map(({ holder }) => holder.address), null]
  const penalty = stops.slice(1).reduce((sum, to, at) => sum + (penaltyMs?.(stops[at] ?? null, to) ?? 0), 0)
  const decodeMs = hops.reduce((sum, hop) => sum + hop.linkMs + hop.computeMs, homeMs)
  return { hops, decodeMs, homeMs, penaltyMs: penalty }
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
