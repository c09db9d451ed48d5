import { type Span, spanContains, spanLength } from '../base/span.ts'
import { type Assigned, type AssignRequest, chooseWindow, layerThroughput, minHops, throughputOf } from './assign.ts'

export interface RebalanceRequest extends AssignRequest {
  /** The node that decides. */
  readonly self: string
  /** Layers that fit here: a move may also widen a span that was cut to a gap. */
  readonly fits: number
  /** Since this node last moved or joined, ms. */
  readonly stayedMs: number
}

export interface Move {
  readonly span: Span
  readonly reason: 'gap' | 'fragmented' | 'weakest'
  /** Weakest layer before, and after everybody's best moves, tokens per second. */
  readonly currentTps: number
  readonly achievableTps: number
}

/** A swarm that is worse than this share of what it could be is worth a move (swarm.md §4). */
const worthMoving = 0.75
/** Moves cost everybody: draining, a download, new circuits. Gaps and broken routes do not wait for this. */
const stayMs = 3_600_000
/** A node that has just come or moved waits until others have heard of it, whatever is missing. */
const settleMs = 30_000
/** Longest wait before a move, drawn anew by each node: the first mover's advert makes the others stay. */
const moveJitterMs = 120_000
/** Rounds of everybody's best moves; most swarms settle in two or three. */
const maxRounds = 4

/** Ms to wait before a decided move is looked at once more and then made; `random` in [0, 1). */
export function moveDelayMs(random: number): number {
  return random * moveJitterMs
}

/**
 * Whether this node should hold other layers. Undefined: stay. Never opens a gap; closes gaps and shortens routes that
 * are too long; otherwise only when the weakest layer is below 0.75 of what it would be after everybody's best moves.
 * Pure: the caller waits moveDelayMs, asks again with what is known then, and only then drains and moves.
 */
export function decideMove(peers: readonly Assigned[], request: RebalanceRequest): Move | undefined {
  const self = peers.find(({ id }) => id === request.self)
  if (self === undefined || request.stayedMs < settleMs) return undefined
  const before = qualityOf(peers, request)
  const best = bestMove(self, peers, request)
  if (best === undefined) return undefined
  const after = replace(peers, best)
  const own = qualityOf(after, request)
  const change = { span: best.span, currentTps: before.weakest }
  if (own.gaps < before.gaps) return { ...change, reason: 'gap', achievableTps: own.weakest }
  if (own.gaps > 0) return undefined
  if (own.excessHops < before.excessHops) return { ...change, reason: 'fragmented', achievableTps: own.weakest }
  if (request.stayedMs < stayMs || before.weakest >= worthMoving * ideal(peers, request)) return undefined
  const settled = qualityOf(settle(after, request), request)
  if (before.weakest >= worthMoving * settled.weakest) return undefined
  return { ...change, reason: 'weakest', achievableTps: settled.weakest }
}

/** No arrangement makes the weakest layer stronger than all speed spread evenly would. */
function ideal(peers: readonly Assigned[], { nLayers }: AssignRequest): number {
  return peers.reduce((sum, peer) => sum + throughputOf(peer) * spanLength(peer.span), 0) / nLayers
}

interface Quality {
  readonly gaps: number
  /** Hops above the legal number; 0 while gaps leave that open. */
  readonly excessHops: number
  /** Tokens per second of each layer, ascending. */
  readonly sorted: Float64Array
  /** The first of them. */
  readonly weakest: number
}

function qualityOf(peers: readonly Assigned[], { nLayers, maxHops }: AssignRequest): Quality {
  const sorted = layerThroughput(peers, nLayers).sort()
  const firstServed = sorted.findIndex((value) => value > 0)
  const gaps = firstServed < 0 ? nLayers : firstServed
  const spans = peers.map(({ span }) => span)
  const hops = gaps > 0 ? 0 : minHops(spans, nLayers)
  return { gaps, excessHops: Math.max(0, hops - maxHops), sorted, weakest: sorted[0] ?? 0 }
}

/** Where `self` would go if it joined now, as long as nobody loses a layer by it. Undefined: it is there already. */
function bestMove(self: Assigned, peers: readonly Assigned[], request: RebalanceRequest): Assigned | undefined {
  const others = peers.filter(({ id }) => id !== self.id)
  const size = self.id === request.self ? Math.max(1, request.fits) : spanLength(self.span)
  const needed = soleLayers(self, others, request.nLayers)
  const sizes = [...new Set([size, spanLength(self.span)])]
  const now = qualityOf(peers, request)
  let best: { peer: Assigned; quality: Quality } | undefined
  for (const length of sizes) {
    for (const span of windows(others, length, needed, request)) {
      const peer = { ...self, span }
      const quality = qualityOf(replace(peers, peer), request)
      if (isBetter(quality, best?.quality ?? now)) best = { peer, quality }
    }
  }
  return best?.peer
}

/** The chosen window, and those that keep what only this node holds. */
function windows(
  others: readonly Assigned[],
  length: number,
  needed: Span | undefined,
  request: AssignRequest,
): Span[] {
  if (length > request.nLayers) return []
  const chosen = chooseWindow(others, length, request).span
  if (needed === undefined) return [chosen]
  if (spanLength(needed) > length) return []
  if (spanContains(chosen, needed)) return [chosen]
  const first = Math.max(0, needed.end - length)
  const last = Math.min(needed.start, request.nLayers - length)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => ({
    start: first + i,
    end: first + i + length,
  }))
}

/** From the first to the last layer that only this node holds. */
function soleLayers(self: Assigned, others: readonly Assigned[], nLayers: number): Span | undefined {
  const load = layerThroughput(others, nLayers)
  let start = -1
  let end = -1
  for (let layer = self.span.start; layer < self.span.end; layer++) {
    if (load[layer] !== 0) continue
    if (start < 0) start = layer
    end = layer + 1
  }
  return start < 0 ? undefined : { start, end }
}

function isBetter(a: Quality, b: Quality): boolean {
  if (a.gaps !== b.gaps) return a.gaps < b.gaps
  if (a.excessHops !== b.excessHops) return a.excessHops < b.excessHops
  for (let i = 0; i < a.sorted.length; i++) {
    const [own = 0, other = 0] = [a.sorted[i], b.sorted[i]]
    if (Math.abs(own - other) > 1e-9 * other) return own > other
  }
  return false
}

function replace(peers: readonly Assigned[], moved: Assigned): Assigned[] {
  return peers.map((peer) => (peer.id === moved.id ? moved : peer))
}

/** Everybody moves in turn to where it helps most, the fastest first, until nobody would. */
function settle(peers: readonly Assigned[], request: RebalanceRequest): Assigned[] {
  let now = [...peers]
  for (let round = 0; round < maxRounds; round++) {
    let moved = false
    const order = [...now].sort((a, b) => throughputOf(b) - throughputOf(a) || (a.id < b.id ? -1 : 1))
    for (const { id } of order) {
      const peer = now.find((each) => each.id === id)
      const better = peer === undefined ? undefined : bestMove(peer, now, request)
      if (better === undefined) continue
      now = replace(now, better)
      moved = true
    }
    if (!moved) break
  }
  return now
}
