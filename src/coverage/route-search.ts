import type { Span } from '../base/span.ts'
import type { LayerHolder } from './map.ts'
import { linkMs } from './route-costs.ts'
import {
  at,
  describeNodes,
  exclude,
  type FoundHop,
  intAt,
  NOBODY,
  penaltyBetween,
  type RouteNodes,
  type SearchRequest,
} from './route-nodes.ts'
import { refineRoute } from './route-refine.ts'

export interface FoundRoute {
  readonly hops: readonly FoundHop[]
  /** No way can cost less; and how much more this one costs, penalties included. */
  readonly leastMs: number
  readonly overMs: number
}

/** The cheapest arrivals that are kept for each layer; when all are barred to a holder, every arrival is looked at. */
const KEPT = 4
/** A way that costs so little more than any can is taken as it is. */
const GOOD_SHARE = 0.01
/** Ways that cost so many times the bound from behind are looked at; when there is none, dearer ones. */
const LOOKED_AT = [1.03, 1.1, 1.4, Number.POSITIVE_INFINITY]

/**
 * The cheapest chain of at most `maxHops` different holders over the span: shortest paths over (holder, layer at which it
 * begins), hop by hop. Between holders whose round trip nobody has told the link costs the same, so the few cheapest
 * arrivals at a layer serve them all; told links are looked at one by one. That keeps it at O(hops × layers held ×
 * neighbours): 1,000 peers take milliseconds (bench/routes.ts). Undefined when there is none. Pure.
 */
export function searchRoute(holders: readonly LayerHolder[], request: SearchRequest): FoundRoute | undefined {
  const nodes = describeNodes(holders, request)
  const leastMs = shortestOf(holders, request, nodes)
  const refined = (hops: readonly FoundHop[], costMs: number): FoundRoute => {
    const isGood = costMs - leastMs <= GOOD_SHARE * leastMs
    const better = isGood ? undefined : refineRoute(holders, request, nodes, costMs)
    return { hops: better ?? hops, leastMs, overMs: costMs - leastMs }
  }
  for (const share of LOOKED_AT) {
    const search = new Search(holders, request, nodes, share * leastMs)
    const hops = search.run()
    if (hops !== undefined) return refined(hops, search.costMs)
  }
  return undefined
}

/** What no way can be cheaper than. */
function shortestOf(holders: readonly LayerHolder[], { span }: SearchRequest, nodes: RouteNodes): number {
  let least = Number.POSITIVE_INFINITY
  for (const [index, holder] of holders.entries()) {
    if (intAt(nodes.first, index) !== span.start || holder.span.start > span.start) continue
    least = Math.min(
      least,
      linkMs(holder.rttMs, holder) + at(nodes.fixedMs, index) + at(nodes.restMs, intAt(nodes.offset, index)),
    )
  }
  return least
}

/** The cheapest arrivals, KEPT for each layer of the span, cheapest first. */
interface Tops {
  readonly ms: Float64Array
  readonly holder: Int32Array
}

/** The ways of exactly so many hops, by holder and layer: what it takes to go back along them. */
interface Level {
  /** The holder before the one that begins at a layer. */
  readonly parent: Int32Array
  /** The layer at which a holder began that has computed up to a layer. */
  readonly began: Int32Array
}

/** What the newest ways cost; one hop fills it from that of the hop before. */
interface Costs {
  /** On arrival at a holder that is to begin at a layer, its link included. */
  readonly beginMs: Float64Array
  /** When a holder has computed up to a layer. */
  readonly leaveMs: Float64Array
  /** Of each holder: 1 when it begins anywhere at this hop. */
  readonly takesPart: Uint8Array
}

class Search {
  readonly #holders: readonly LayerHolder[]
  readonly #request: SearchRequest
  readonly #nodes: RouteNodes
  readonly #levels: Level[] = []
  /** The cheapest arrivals at each layer: of all holders that reach it, and of those that end there. */
  readonly #reaching: Tops
  readonly #ending: Tops
  /** The holder for which it was last noted that a link from this one is known. */
  readonly #knownTo: Int32Array
  /** The cheapest beginning with fewer hops: a dearer one leads nowhere better. */
  readonly #leastMs: Float64Array
  #costs: Costs
  #next: Costs
  #nextLevel: Level
  #alive = false
  #bestMs: number
  #best: { level: number; holder: number } | undefined

  /** Looks for ways that cost less than `limitMs`. */
  constructor(holders: readonly LayerHolder[], request: SearchRequest, nodes: RouteNodes, limitMs: number) {
    this.#holders = holders
    this.#request = request
    this.#nodes = nodes
    this.#bestMs = limitMs
    this.#reaching = createTops(request.span)
    this.#ending = createTops(request.span)
    this.#costs = this.#emptyCosts()
    this.#next = this.#emptyCosts()
    this.#nextLevel = this.#emptyLevel()
    this.#leastMs = new Float64Array(this.#nodes.size).fill(Number.POSITIVE_INFINITY)
    this.#knownTo = new Int32Array(holders.length).fill(NOBODY)
  }

  /** Of the way found. */
  get costMs(): number {
    return this.#bestMs
  }

  run(): readonly FoundHop[] | undefined {
    const { maxHops } = this.#request
    this.#begin()
    for (let level = 0; level < maxHops; level++) {
      this.#compute(level)
      if (level + 1 === maxHops || !this.#advance(level)) break
    }
    return this.#best === undefined ? undefined : this.#unroll(this.#best)
  }

  #emptyLevel(): Level {
    const { size } = this.#nodes
    return { parent: new Int32Array(size).fill(NOBODY), began: new Int32Array(size) }
  }

  #emptyCosts(): Costs {
    const { size } = this.#nodes
    const [beginMs, leaveMs] = [new Float64Array(size), new Float64Array(size)]
    const takesPart = new Uint8Array(this.#holders.length)
    return clear({ beginMs, leaveMs, takesPart })
  }

  /** The ways of one hop. */
  #begin(): void {
    const { span } = this.#request
    for (const [index, holder] of this.#holders.entries()) {
      if (intAt(this.#nodes.first, index) !== span.start || holder.span.start > span.start) continue
      const startMs = at(this.#nodes.entryMs, index) + this.#penaltyMs(NOBODY, index)
      const cell = intAt(this.#nodes.offset, index)
      const costMs = startMs + at(this.#nodes.fixedMs, index)
      if (costMs >= this.#mostMs(cell)) continue
      this.#costs.takesPart[index] = 1
      this.#costs.beginMs[cell] = costMs
    }
    this.#levels.push(this.#emptyLevel())
  }

  /** From where each holder may begin to where it may end: the best beginning so far serves every later layer. */
  #compute(number: number): void {
    const { first, end, offset, msPerLayer } = this.#nodes
    const { began: beganAt } = this.#level(number)
    const { beginMs, leaveMs, takesPart } = this.#costs
    const last = this.#request.span.end
    this.#reaching.ms.fill(Number.POSITIVE_INFINITY)
    this.#ending.ms.fill(Number.POSITIVE_INFINITY)
    for (let index = 0; index < this.#holders.length; index++) {
      if (takesPart[index] === 0) continue
      const base = intAt(offset, index) - intAt(first, index)
      const perLayer = at(msPerLayer, index)
      let bestMs = Number.POSITIVE_INFINITY
      let began = 0
      for (let layer = intAt(first, index); layer < intAt(end, index); layer++) {
        const here = at(beginMs, base + layer) - perLayer * layer
        if (here < bestMs) {
          bestMs = here
          began = layer
        }
        if (bestMs === Number.POSITIVE_INFINITY) continue
        const costMs = bestMs + perLayer * (layer + 1)
        leaveMs[base + layer + 1] = costMs
        beganAt[base + layer + 1] = began
        if (layer + 1 === last) this.#finish(number, index, costMs)
        else noteTop(this.#reaching, layer + 1 - this.#request.span.start, index, costMs)
        if (layer + 1 < last && layer + 1 === intAt(end, index)) {
          noteTop(this.#ending, layer + 1 - this.#request.span.start, index, costMs)
        }
      }
    }
  }

  #finish(level: number, index: number, costMs: number): void {
    const homeMs = at(this.#nodes.entryMs, index) + this.#penaltyMs(index, NOBODY)
    if (costMs + homeMs >= this.#bestMs) return
    this.#bestMs = costMs + homeMs
    this.#best = { level, holder: index }
  }

  /**
   * One hop more. A way with given holders costs least when it changes over as late or as early as it can, so a holder is
   * entered where the one before ends, or at its own first layer. False when no way goes on.
   */
  #advance(level: number): boolean {
    const { first, end, knownAt, knownFrom, knownMs, unknownLinkMs } = this.#nodes
    const { takesPart } = this.#costs
    this.#nextLevel = this.#emptyLevel()
    this.#alive = false
    for (let to = 0; to < this.#holders.length; to++) {
      if (!this.#isInReach(to)) continue
      for (let link = intAt(knownAt, to); link < intAt(knownAt, to + 1); link++) {
        const from = intAt(knownFrom, link)
        this.#knownTo[from] = to
        if (takesPart[from] === 1) this.#relaxKnown(level, from, to, at(knownMs, link))
      }
      const linkMs = at(unknownLinkMs, to)
      this.#relaxUnknown(level, to, intAt(first, to), this.#reaching, linkMs)
      for (let layer = intAt(first, to) + 1; layer < intAt(end, to); layer++) {
        this.#relaxUnknown(level, to, layer, this.#ending, linkMs)
      }
    }
    this.#levels.push(this.#nextLevel)
    const done = this.#costs
    this.#costs = this.#next
    this.#next = clear(done)
    return this.#alive
  }

  /** Over a link that takes no time from the cheapest arrival it would be worth it: most holders are out of reach even then. */
  #isInReach(to: number): boolean {
    const { first, end, offset, fixedMs } = this.#nodes
    const base = intAt(offset, to) - intAt(first, to)
    for (let layer = intAt(first, to); layer < intAt(end, to); layer++) {
      const arrivedMs = at(this.#reaching.ms, KEPT * (layer - this.#request.span.start))
      if (arrivedMs + at(fixedMs, to) < this.#mostMs(base + layer)) return true
    }
    return false
  }

  /** Also after a single layer: a holder may be worth a hop only because links to and from it are known to be short. */
  #relaxKnown(level: number, from: number, to: number, linkMs: number): void {
    const { first, end, offset } = this.#nodes
    const { began } = this.#level(level)
    const base = intAt(offset, from) - intAt(first, from)
    const last = Math.min(intAt(end, from), intAt(end, to) - 1)
    for (let layer = Math.max(intAt(first, from) + 1, intAt(first, to)); layer <= last; layer++) {
      const vertex =
        layer === intAt(first, to) || layer === intAt(end, from) || intAt(began, base + layer) === layer - 1
      if (vertex) this.#relax(level, from, to, layer, linkMs)
    }
  }

  #relaxUnknown(level: number, to: number, layer: number, tops: Tops, linkMs: number): void {
    const base = KEPT * (layer - this.#request.span.start)
    // Most holders are reached better otherwise than from the cheapest arrival: that is seen at once.
    const cell = intAt(this.#nodes.offset, to) + layer - intAt(this.#nodes.first, to)
    if (at(tops.ms, base) + linkMs + at(this.#nodes.fixedMs, to) >= this.#mostMs(cell)) return
    for (let place = base; place < base + KEPT; place++) {
      // Fewer than KEPT: all arrivals have been seen.
      if (at(tops.ms, place) === Number.POSITIVE_INFINITY) return
      const from = intAt(tops.holder, place)
      if (this.#knownTo[from] === to) continue
      if (this.#relax(level, from, to, layer, linkMs)) return
    }
    const all = tops === this.#reaching
    for (let from = 0; from < this.#holders.length; from++) {
      if (this.#knownTo[from] === to || !(all || intAt(this.#nodes.end, from) === layer)) continue
      this.#relax(level, from, to, layer, linkMs)
    }
  }

  /** Begins at a holder and a layer after another one, if that is better. True when no dearer arrival can be. */
  #relax(level: number, from: number, to: number, layer: number, linkMs: number): boolean {
    const { first, end, offset } = this.#nodes
    if (from === to || layer <= intAt(first, from) || layer > intAt(end, from)) return false
    const cell = intAt(offset, to) + layer - intAt(first, to)
    const arrivedMs = at(this.#costs.leaveMs, intAt(offset, from) + layer - intAt(first, from))
    const costMs = arrivedMs + linkMs + at(this.#nodes.fixedMs, to)
    const mostMs = this.#mostMs(cell)
    if (costMs >= mostMs) return true
    const penaltyMs = this.#penaltyMs(from, to)
    if (costMs + penaltyMs >= mostMs || this.#isBarred(level, from, to, layer)) return false
    this.#next.beginMs[cell] = costMs + penaltyMs
    this.#nextLevel.parent[cell] = from
    this.#next.takesPart[to] = 1
    this.#leastMs[cell] = costMs + penaltyMs
    this.#alive = true
    return penaltyMs === 0
  }

  /** A way that begins in this cell and costs as much leads nowhere better than what has been found. */
  #mostMs(cell: number): number {
    return Math.min(at(this.#leastMs, cell), this.#bestMs - at(this.#nodes.restMs, cell))
  }

  #isBarred(level: number, from: number, to: number, layer: number): boolean {
    const { first, offset } = this.#nodes
    let index = from
    let until = layer
    for (let number = level; number >= 0; number--) {
      if (exclude(this.#holders, this.#request, index, to)) return true
      const base = intAt(offset, index) - intAt(first, index)
      const { began, parent } = this.#level(number)
      until = intAt(began, base + until)
      index = intAt(parent, base + until)
    }
    return false
  }

  #unroll({ level, holder }: { level: number; holder: number }): FoundHop[] {
    const { first, offset } = this.#nodes
    const hops: FoundHop[] = []
    let index = holder
    let until = this.#request.span.end
    for (let number = level; number >= 0; number--) {
      const base = intAt(offset, index) - intAt(first, index)
      const { began, parent } = this.#level(number)
      until = intAt(began, base + until)
      hops.unshift({ index, start: until })
      index = intAt(parent, base + until)
    }
    return hops
  }

  #penaltyMs(from: number, to: number): number {
    return penaltyBetween(this.#holders, this.#request, from, to)
  }

  #level(number: number): Level {
    const level = this.#levels[number]
    if (level === undefined) throw new RangeError('no such level')
    return level
  }
}

function clear(costs: Costs): Costs {
  costs.beginMs.fill(Number.POSITIVE_INFINITY)
  costs.leaveMs.fill(Number.POSITIVE_INFINITY)
  costs.takesPart.fill(0)
  return costs
}

function createTops({ start, end }: Span): Tops {
  const cells = KEPT * (end - start + 1)
  return { ms: new Float64Array(cells), holder: new Int32Array(cells) }
}

function noteTop({ ms, holder }: Tops, row: number, index: number, costMs: number): void {
  const base = KEPT * row
  if (costMs >= at(ms, base + KEPT - 1)) return
  let place = base + KEPT - 1
  for (; place > base && at(ms, place - 1) > costMs; place--) {
    ms[place] = at(ms, place - 1)
    holder[place] = intAt(holder, place - 1)
  }
  ms[place] = costMs
  holder[place] = index
}
