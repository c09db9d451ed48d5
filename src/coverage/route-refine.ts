import type { LayerHolder } from './map.ts'
import {
  at,
  exclude,
  type FoundHop,
  intAt,
  NOBODY,
  penaltyBetween,
  type RouteNodes,
  type SearchRequest,
} from './route-nodes.ts'

/** Continuations looked at: all there are in a swarm of some dozens, a millisecond among 1,000. */
const MOST_LOOKS = 60_000

/**
 * Looks for a way that costs less than `limitMs`: depth first, the most promising continuation first, and none of which the
 * bound from behind says that it costs as much. It finds what a search with one way for each holder and layer can hide,
 * when that way is barred further on because a holder would be on it twice. Undefined when there is none, or not within
 * MOST_LOOKS. Pure.
 */
export function refineRoute(
  holders: readonly LayerHolder[],
  request: SearchRequest,
  nodes: RouteNodes,
  limitMs: number,
): readonly FoundHop[] | undefined {
  return new Refinement(holders, request, nodes, limitMs).run()
}

interface Step {
  readonly index: number
  readonly start: number
  /** Of the way up to here, the link to this holder included; and what the whole way costs at least. */
  readonly arrivedMs: number
  readonly leastMs: number
}

class Refinement {
  readonly #holders: readonly LayerHolder[]
  readonly #request: SearchRequest
  readonly #nodes: RouteNodes
  readonly #way: Step[] = []
  #bestMs: number
  #best: readonly FoundHop[] | undefined
  #looks = 0

  constructor(holders: readonly LayerHolder[], request: SearchRequest, nodes: RouteNodes, limitMs: number) {
    this.#holders = holders
    this.#request = request
    this.#nodes = nodes
    this.#bestMs = limitMs
  }

  run(): readonly FoundHop[] | undefined {
    const { span } = this.#request
    const first: Step[] = []
    for (const [index, holder] of this.#holders.entries()) {
      const isFirst = intAt(this.#nodes.first, index) === span.start && holder.span.start <= span.start
      if (isFirst) this.#look(first, NOBODY, index, span.start, at(this.#nodes.entryMs, index))
    }
    this.#follow(first)
    return this.#best
  }

  /** Notes a continuation that may lead to something better. */
  #look(steps: Step[], from: number, index: number, start: number, costMs: number): void {
    const { first, offset, fixedMs, restMs } = this.#nodes
    this.#looks++
    const arrivedMs = costMs + at(fixedMs, index)
    const leastMs = arrivedMs + at(restMs, intAt(offset, index) + start - intAt(first, index))
    if (leastMs >= this.#bestMs || this.#isBarred(index)) return
    const penaltyMs = this.#penaltyMs(from, index)
    if (leastMs + penaltyMs >= this.#bestMs) return
    steps.push({ index, start, arrivedMs: arrivedMs + penaltyMs, leastMs: leastMs + penaltyMs })
  }

  #follow(steps: Step[]): void {
    for (const step of steps.sort((a, b) => a.leastMs - b.leastMs)) {
      if (step.leastMs >= this.#bestMs || this.#looks > MOST_LOOKS) return
      this.#way.push(step)
      this.#finish(step)
      if (this.#way.length < this.#request.maxHops) this.#follow(this.#continuations(step))
      this.#way.pop()
    }
  }

  /** To the end of all layers, where this holder reaches it. */
  #finish({ index, start, arrivedMs }: Step): void {
    const { end, msPerLayer, entryMs } = this.#nodes
    const last = this.#request.span.end
    if (intAt(end, index) < last) return
    const homeMs = at(entryMs, index) + this.#penaltyMs(index, NOBODY)
    const costMs = arrivedMs + (last - start) * at(msPerLayer, index) + homeMs
    if (costMs >= this.#bestMs) return
    this.#bestMs = costMs
    this.#best = this.#way.map((step) => ({ index: step.index, start: step.start }))
  }

  #continuations({ index: from, start, arrivedMs }: Step): Step[] {
    const { first, end, msPerLayer, unknownLinkMs, knownAt, knownFrom, knownMs } = this.#nodes
    const steps: Step[] = []
    for (let to = 0; to < this.#holders.length && this.#looks <= MOST_LOOKS; to++) {
      let linkMs = at(unknownLinkMs, to)
      for (let link = intAt(knownAt, to); link < intAt(knownAt, to + 1); link++) {
        if (intAt(knownFrom, link) === from) linkMs = at(knownMs, link)
      }
      const last = Math.min(intAt(end, from), intAt(end, to) - 1)
      for (let layer = Math.max(start + 1, intAt(first, to)); layer <= last; layer++) {
        this.#look(steps, from, to, layer, arrivedMs + (layer - start) * at(msPerLayer, from) + linkMs)
      }
    }
    return steps
  }

  #isBarred(to: number): boolean {
    return this.#way.some(({ index }) => exclude(this.#holders, this.#request, index, to))
  }

  #penaltyMs(from: number, to: number): number {
    return penaltyBetween(this.#holders, this.#request, from, to)
  }
}
