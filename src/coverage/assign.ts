import { assertInput } from '../base/errors.ts'
import { type Span, spanLength } from '../base/span.ts'

/** One peer's span as assignment sees it. Joining peers count: they are about to hold what they have announced. */
export interface Assigned {
  readonly id: string
  readonly span: Span
  /** Ms per layer of one decode step, links and relays not counted. */
  readonly msPerLayer: number
}

export interface AssignRequest {
  readonly nLayers: number
  /** Compute hops that a circuit may have. */
  readonly maxHops: number
}

/** Why a window was chosen, for the sentence that people read. */
export type AssignReason = 'first' | 'gap' | 'fragmented' | 'weakest' | 'everything'

export interface Assignment {
  readonly span: Span
  readonly reason: AssignReason
  /** Layers of the span that nobody else holds. */
  readonly gapLayers: number
  /** Fewest other holders of a layer of the span. */
  readonly replicasBefore: number
}

/** Tokens per second that a peer gives each of its layers: a token passes through all of them. */
export function throughputOf({ span, msPerLayer }: Assigned): number {
  return 1000 / (Math.max(msPerLayer, 1e-6) * spanLength(span))
}

/** Tokens per second of each layer, summed over its holders. 0: a gap. */
export function layerThroughput(peers: readonly Assigned[], nLayers: number): Float64Array<ArrayBuffer> {
  const sums = new Float64Array(nLayers)
  for (const peer of peers) {
    const each = throughputOf(peer)
    for (let layer = peer.span.start; layer < Math.min(peer.span.end, nLayers); layer++) {
      sums[layer] = (sums[layer] ?? 0) + each
    }
  }
  return sums
}

/**
 * Compute hops of the shortest route over all layers; Infinity when a layer is held by nobody. A hop can be left where
 * another one begins, so taking the furthest reach each time is best.
 */
export function minHops(spans: readonly Span[], nLayers: number): number {
  const ordered = [...spans].sort((a, b) => a.start - b.start)
  let hops = 0
  let at = 0
  for (let reach = 0, next = 0; at < nLayers; at = reach) {
    for (; next < ordered.length && (ordered[next]?.start ?? 0) <= at; next++) {
      reach = Math.max(reach, ordered[next]?.end ?? 0)
    }
    if (reach <= at) return Number.POSITIVE_INFINITY
    hops++
  }
  return hops
}

/**
 * The window of `size` layers where a newcomer helps most (swarm.md §4): the one whose sorted throughput per layer is
 * lexicographically smallest, so gaps come first and then the weakest layers. Where nothing is missing but every route
 * is too long, the one that shortens it most. A window with gaps is cut to the part from the first to the last gap, as
 * long as the route stays legal: fewer layers are there sooner and serve each token faster. Among equals the one that
 * touches other spans' borders, since routes get shorter that way. Pure.
 */
export function chooseWindow(peers: readonly Assigned[], size: number, request: AssignRequest): Assignment {
  const { nLayers, maxHops } = request
  assertInput(Number.isInteger(size) && size >= 1, `${size} layers cannot be assigned.`)
  const length = Math.min(size, nLayers)
  const load = layerThroughput(peers, nLayers)
  const spans = peers.map(({ span }) => span)
  const hops = minHops(spans, nLayers)
  const fragmented = Number.isFinite(hops) && hops > maxHops
  let best: Candidate | undefined
  const borders = bordersOf(spans, nLayers)
  for (let start = 0; start + length <= nLayers; start++) {
    const span = { start, end: start + length }
    const candidate: Candidate = {
      span,
      hops: fragmented ? minHops([...spans, span], nLayers) : 0,
      sorted: load.slice(span.start, span.end).sort(),
      borders: Number(borders.has(span.start)) + Number(borders.has(span.end)),
    }
    if (best === undefined || isBetter(candidate, best)) best = candidate
  }
  const window = best?.span ?? { start: 0, end: length }
  const gaps = countGaps(load, window)
  const span = gaps > 0 ? cutToGaps(spans, load, window, request) : window
  const shortens = fragmented && (best?.hops ?? hops) < hops
  return {
    span,
    reason: reasonOf({ nPeers: peers.length, gaps, shortens, covers: spanLength(span) === nLayers }),
    gapLayers: gaps,
    replicasBefore: fewestHolders(spans, span),
  }
}

interface Candidate {
  readonly span: Span
  readonly hops: number
  readonly sorted: Float64Array
  /** 0 to 2 of its ends lie where another span begins or ends. */
  readonly borders: number
}

function isBetter(a: Candidate, b: Candidate): boolean {
  if (a.hops !== b.hops) return a.hops < b.hops
  for (let i = 0; i < a.sorted.length; i++) {
    const difference = (a.sorted[i] ?? 0) - (b.sorted[i] ?? 0)
    // Sums of the same numbers in another order differ in the last bits.
    if (Math.abs(difference) > 1e-9 * (a.sorted[i] ?? 0)) return difference < 0
  }
  return a.borders > b.borders
}

function bordersOf(spans: readonly Span[], nLayers: number): Set<number> {
  return new Set([0, nLayers, ...spans.flatMap(({ start, end }) => [start, end])])
}

function countGaps(load: Float64Array, { start, end }: Span): number {
  return load.subarray(start, end).reduce((count, value) => count + (value === 0 ? 1 : 0), 0)
}

function cutToGaps(spans: readonly Span[], load: Float64Array, window: Span, request: AssignRequest): Span {
  const isGap = (layer: number) => load[layer] === 0
  let { start, end } = window
  while (start < end && !isGap(start)) start++
  while (end > start && !isGap(end - 1)) end--
  const cut = { start, end }
  // What is still missing elsewhere is thought of as one more span: it may not be lost to a route that is too long.
  const missing: Span[] = [...spans, cut]
  for (let layer = 0; layer < load.length; layer++) {
    const inside = layer >= start && layer < end
    if (inside || !isGap(layer)) continue
    let stop = layer
    while (stop < load.length && isGap(stop) && !(stop >= start && stop < end)) stop++
    missing.push({ start: layer, end: stop })
    layer = stop
  }
  return minHops(missing, request.nLayers) <= request.maxHops ? cut : window
}

function reasonOf(facts: { nPeers: number; gaps: number; shortens: boolean; covers: boolean }): AssignReason {
  if (facts.nPeers === 0) return 'first'
  if (facts.gaps > 0) return 'gap'
  if (facts.shortens) return 'fragmented'
  return facts.covers ? 'everything' : 'weakest'
}

function fewestHolders(spans: readonly Span[], span: Span): number {
  let fewest = spans.length
  for (let layer = span.start; layer < span.end; layer++) {
    fewest = Math.min(fewest, spans.filter(({ start, end }) => start <= layer && layer < end).length)
  }
  return fewest
}
