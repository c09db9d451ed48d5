import type { Span } from '../base/span.ts'
import type { LayerHolder } from './map.ts'
import { linkMs, rttBetween, shortKvMs } from './route-costs.ts'

export interface SearchRequest {
  readonly span: Span
  readonly maxContext: number
  readonly maxHops: number
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
  readonly penalised?: ReadonlySet<string> | undefined
  readonly clash?: ((a: string, b: string) => boolean) | undefined
  /** For each holder, by index: what its costs are multiplied with in the search. */
  readonly factors?: readonly number[] | undefined
}

/** One hop of the way found: the holder's index, and the first layer that it computes. */
export interface FoundHop {
  readonly index: number
  readonly start: number
}

/** The cheapest arrivals that are kept for each layer; when all are barred to a holder, every arrival is looked at. */
const KEPT = 4
const NOBODY = -1

/**
 * The cheapest chain of at most `maxHops` different holders over the span: shortest paths over (holder, layer at which it
 * begins), hop by hop. Between holders whose round trip nobody has told the link costs the same, so the few cheapest
 * arrivals at a layer serve them all; told links are looked at one by one. That keeps it at O(hops × layers held ×
 * neighbours): 1,000 peers take milliseconds (bench/routes.ts). Undefined when there is none. Pure.
 */
export function searchRoute(holders: readonly LayerHolder[], request: SearchRequest): readonly FoundHop[] | undefined {
  return new Search(holders, request).run()
}

interface Nodes {
  readonly first: Int32Array
  readonly end: Int32Array
  /** Where a holder's layers begin in the tables of a hop: entry `offset + layer − first`. */
  readonly offset: Int32Array
  readonly size: number
  readonly msPerLayer: Float64Array
  readonly unknownLinkMs: Float64Array
  /** Holders to which a link is known, and its ms: those of one holder lie from `knownAt[index]` to `knownAt[index + 1]`. */
  readonly knownAt: Int32Array
  readonly knownFrom: Int32Array
  readonly knownMs: Float64Array
  /** What a holder costs more for want of room. */
  readonly fixedMs: Float64Array
  /** What the way costs at least from where a holder begins at a layer, as the tables of a hop. */
  readonly restMs: Float64Array
}

/** The cheapest arrivals, KEPT for each layer of the span, cheapest first. */
interface Tops {
  readonly ms: Float64Array
  readonly holder: Int32Array
}

/** All ways of exactly so many hops, by holder and layer. */
interface Level {
  /** Cost on arrival at a holder that is to begin at a layer, its link included; the holder before it. */
  readonly beginMs: Float64Array
  readonly parent: Int32Array
  /** Cost when a holder has computed up to a layer, and the layer at which it began then. */
  readonly leaveMs: Float64Array
  readonly began: Int32Array
  /** Of each holder: 1 when it begins anywhere at this hop. */
  readonly takesPart: Uint8Array
}

class Search {
  readonly #holders: readonly LayerHolder[]
  readonly #request: SearchRequest
  readonly #nodes: Nodes
  readonly #levels: Level[] = []
  /** The cheapest arrivals at each layer: of all holders that reach it, and of those that end there. */
  readonly #reaching: Tops
  readonly #ending: Tops
  /** The holder for which it was last noted that a link from this one is known. */
  readonly #knownTo: Int32Array
  /** The cheapest beginning with fewer hops: a dearer one leads nowhere better. */
  readonly #leastMs: Float64Array
  #next: Level
  #alive = false
  #best: { costMs: number; level: number; holder: number } | undefined

  constructor(holders: readonly LayerHolder[], request: SearchRequest) {
    this.#holders = holders
    this.#request = request
    this.#nodes = describeNodes(holders, request)
    this.#reaching = createTops(request.span)
    this.#ending = createTops(request.span)
    this.#next = this.#emptyLevel()
    this.#leastMs = new Float64Array(this.#nodes.size).fill(Number.POSITIVE_INFINITY)
    this.#knownTo = new Int32Array(holders.length).fill(NOBODY)
  }

  run(): readonly FoundHop[] | undefined {
    const { maxHops } = this.#request
    this.#levels.push(this.#firstLevel())
    for (let level = 0; level < maxHops; level++) {
      this.#compute(level)
      if (level + 1 === maxHops || !this.#advance(level)) break
    }
    return this.#best === undefined ? undefined : this.#unroll(this.#best)
  }

  #emptyLevel(): Level {
    const { size } = this.#nodes
    return {
      beginMs: new Float64Array(size).fill(Number.POSITIVE_INFINITY),
      parent: new Int32Array(size).fill(NOBODY),
      leaveMs: new Float64Array(size).fill(Number.POSITIVE_INFINITY),
      began: new Int32Array(size),
      takesPart: new Uint8Array(this.#holders.length),
    }
  }

  #firstLevel(): Level {
    const { span } = this.#request
    const level = this.#emptyLevel()
    for (const [index, holder] of this.#holders.entries()) {
      if (at(this.#nodes.first, index) !== span.start || holder.span.start > span.start) continue
      const costMs = linkMs(holder.rttMs, holder) * this.#factor(index) + this.#penaltyMs(NOBODY, index)
      level.takesPart[index] = 1
      level.beginMs[at(this.#nodes.offset, index)] = costMs + at(this.#nodes.fixedMs, index)
    }
    return level
  }

  /** From where each holder may begin to where it may end: the best beginning so far serves every later layer. */
  #compute(number: number): void {
    const { first, end, offset, msPerLayer } = this.#nodes
    const level = this.#level(number)
    const last = this.#request.span.end
    this.#reaching.ms.fill(Number.POSITIVE_INFINITY)
    this.#ending.ms.fill(Number.POSITIVE_INFINITY)
    for (let index = 0; index < this.#holders.length; index++) {
      if (level.takesPart[index] === 0) continue
      const base = at(offset, index) - at(first, index)
      const perLayer = at(msPerLayer, index)
      let bestMs = Number.POSITIVE_INFINITY
      let began = 0
      for (let layer = at(first, index); layer < at(end, index); layer++) {
        const here = at(level.beginMs, base + layer) - perLayer * layer
        if (here < bestMs) {
          bestMs = here
          began = layer
        }
        if (bestMs === Number.POSITIVE_INFINITY) continue
        const costMs = bestMs + perLayer * (layer + 1)
        level.leaveMs[base + layer + 1] = costMs
        level.began[base + layer + 1] = began
        if (layer + 1 === last) this.#finish(number, index, costMs)
        else noteTop(this.#reaching, layer + 1 - this.#request.span.start, index, costMs)
        if (layer + 1 < last && layer + 1 === at(end, index)) {
          noteTop(this.#ending, layer + 1 - this.#request.span.start, index, costMs)
        }
      }
    }
  }

  #finish(level: number, index: number, costMs: number): void {
    const holder = this.#holder(index)
    const homeMs = linkMs(holder.rttMs, holder) * this.#factor(index) + this.#penaltyMs(index, NOBODY)
    if (this.#best === undefined || costMs + homeMs < this.#best.costMs) {
      this.#best = { costMs: costMs + homeMs, level, holder: index }
    }
  }

  /**
   * One hop more. A way with given holders costs least when it changes over as late or as early as it can, so a holder is
   * entered where the one before ends, or at its own first layer. False when no way goes on.
   */
  #advance(level: number): boolean {
    const { first, end, knownAt, knownFrom, knownMs, unknownLinkMs } = this.#nodes
    const { takesPart } = this.#level(level)
    this.#next = this.#emptyLevel()
    this.#alive = false
    for (let to = 0; to < this.#holders.length; to++) {
      for (let link = at(knownAt, to); link < at(knownAt, to + 1); link++) {
        const from = at(knownFrom, link)
        this.#knownTo[from] = to
        if (takesPart[from] === 1) this.#relaxKnown(level, from, to, at(knownMs, link))
      }
      const linkMs = at(unknownLinkMs, to)
      this.#relaxUnknown(level, to, at(first, to), this.#reaching, linkMs)
      for (let layer = at(first, to) + 1; layer < at(end, to); layer++) {
        this.#relaxUnknown(level, to, layer, this.#ending, linkMs)
      }
    }
    this.#levels.push(this.#next)
    return this.#alive
  }

  /** Also after a single layer: a holder may be worth a hop only because links to and from it are known to be short. */
  #relaxKnown(level: number, from: number, to: number, linkMs: number): void {
    const { first, end, offset } = this.#nodes
    const { began } = this.#level(level)
    const base = at(offset, from) - at(first, from)
    const last = Math.min(at(end, from), at(end, to) - 1)
    for (let layer = Math.max(at(first, from) + 1, at(first, to)); layer <= last; layer++) {
      const vertex = layer === at(first, to) || layer === at(end, from) || at(began, base + layer) === layer - 1
      if (vertex) this.#relax(level, from, to, layer, linkMs)
    }
  }

  #relaxUnknown(level: number, to: number, layer: number, tops: Tops, linkMs: number): void {
    const base = KEPT * (layer - this.#request.span.start)
    for (let place = base; place < base + KEPT; place++) {
      // Fewer than KEPT: all arrivals have been seen.
      if (at(tops.ms, place) === Number.POSITIVE_INFINITY) return
      const from = at(tops.holder, place)
      if (this.#knownTo[from] === to) continue
      if (this.#relax(level, from, to, layer, linkMs)) return
    }
    const all = tops === this.#reaching
    for (let from = 0; from < this.#holders.length; from++) {
      if (this.#knownTo[from] === to || !(all || at(this.#nodes.end, from) === layer)) continue
      this.#relax(level, from, to, layer, linkMs)
    }
  }

  /** Begins at a holder and a layer after another one, if that is better. True when no dearer arrival can be. */
  #relax(level: number, from: number, to: number, layer: number, linkMs: number): boolean {
    const { first, end, offset, restMs } = this.#nodes
    if (from === to || layer <= at(first, from) || layer > at(end, from)) return false
    const cell = at(offset, to) + layer - at(first, to)
    const arrivedMs = at(this.#level(level).leaveMs, at(offset, from) + layer - at(first, from))
    const costMs = arrivedMs + linkMs + at(this.#nodes.fixedMs, to)
    const bestMs = this.#best?.costMs ?? Number.POSITIVE_INFINITY
    const mostMs = Math.min(at(this.#leastMs, cell), bestMs - at(restMs, cell))
    if (costMs >= mostMs) return true
    const penaltyMs = this.#penaltyMs(from, to)
    if (costMs + penaltyMs >= mostMs || this.#isBarred(level, from, to, layer)) return false
    this.#next.beginMs[cell] = costMs + penaltyMs
    this.#next.parent[cell] = from
    this.#next.takesPart[to] = 1
    this.#leastMs[cell] = costMs + penaltyMs
    this.#alive = true
    return penaltyMs === 0
  }

  /** No identity is on a circuit twice (protocol.md §4), nor two that clash. */
  #isBarred(level: number, from: number, to: number, layer: number): boolean {
    const { clash } = this.#request
    const { first, offset } = this.#nodes
    let index = from
    let until = layer
    for (let number = level; number >= 0; number--) {
      if (index === to || clash?.(this.#holder(index).address, this.#holder(to).address)) return true
      const base = at(offset, index) - at(first, index)
      const { began, parent } = this.#level(number)
      until = at(began, base + until)
      index = at(parent, base + until)
    }
    return false
  }

  #unroll({ level, holder }: { level: number; holder: number }): FoundHop[] {
    const { first, offset } = this.#nodes
    const hops: FoundHop[] = []
    let index = holder
    let until = this.#request.span.end
    for (let number = level; number >= 0; number--) {
      const base = at(offset, index) - at(first, index)
      const { began, parent } = this.#level(number)
      until = at(began, base + until)
      hops.unshift({ index, start: until })
      index = at(parent, base + until)
    }
    return hops
  }

  #penaltyMs(from: number, to: number): number {
    const { penaltyMs, penalised } = this.#request
    if (penaltyMs === undefined) return 0
    const [a, b] = [this.#holders[from]?.address ?? null, this.#holders[to]?.address ?? null]
    if (penalised !== undefined && !(a !== null && penalised.has(a)) && !(b !== null && penalised.has(b))) return 0
    return penaltyMs(a, b)
  }

  #factor(index: number): number {
    return this.#request.factors?.[index] ?? 1
  }

  #holder(index: number): LayerHolder {
    const holder = this.#holders[index]
    if (holder === undefined) throw new RangeError('no such holder')
    return holder
  }

  #level(number: number): Level {
    const level = this.#levels[number]
    if (level === undefined) throw new RangeError('no such level')
    return level
  }
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
    holder[place] = at(holder, place - 1)
  }
  ms[place] = costMs
  holder[place] = index
}

function describeNodes(holders: readonly LayerHolder[], { span, factors, maxContext }: SearchRequest): Nodes {
  const n = holders.length
  const nodes = { first: new Int32Array(n), end: new Int32Array(n), offset: new Int32Array(n) }
  const msPerLayer = new Float64Array(n)
  const unknownLinkMs = new Float64Array(n)
  const fixedMs = Float64Array.from(holders, (holder) => shortKvMs(holder, maxContext))
  const indexOf = new Map(holders.map(({ address }, index) => [address, index]))
  const links = holders.map(() => new Set<number>())
  let size = 0
  for (const [index, holder] of holders.entries()) {
    const factor = factors?.[index] ?? 1
    nodes.first[index] = Math.max(holder.span.start, span.start)
    nodes.end[index] = Math.min(holder.span.end, span.end)
    nodes.offset[index] = size
    size += Math.max(0, at(nodes.end, index) - at(nodes.first, index)) + 1
    msPerLayer[index] = holder.decodeMs * factor
    unknownLinkMs[index] = linkMs(null, holder) * factor
    for (const address of holder.neighbourRttMs.keys()) {
      const other = indexOf.get(address)
      if (other === undefined || other === index) continue
      links[index]?.add(other)
      links[other]?.add(index)
    }
  }
  const without = { ...nodes, size, msPerLayer, unknownLinkMs, fixedMs, ...knownLinks(holders, links, factors) }
  return { ...without, restMs: leastMs(holders, span, without) }
}

function knownLinks(
  holders: readonly LayerHolder[],
  links: readonly ReadonlySet<number>[],
  factors: readonly number[] | undefined,
): Pick<Nodes, 'knownAt' | 'knownFrom' | 'knownMs'> {
  const knownAt = new Int32Array(holders.length + 1)
  const from: number[] = []
  const ms: number[] = []
  for (const [index, to] of holders.entries()) {
    for (const other of links[index] ?? []) {
      const holder = holders[other]
      if (holder === undefined) continue
      from.push(other)
      ms.push(linkMs(rttBetween(holder, to), to) * (factors?.[index] ?? 1))
    }
    knownAt[index + 1] = from.length
  }
  return { knownAt, knownFrom: Int32Array.from(from), knownMs: Float64Array.from(ms) }
}

/** A bound from behind: as if every holder could be reached over its own shortest link. */
function leastMs(holders: readonly LayerHolder[], span: Span, nodes: Omit<Nodes, 'restMs'>): Float64Array {
  const { first, end, offset, msPerLayer, unknownLinkMs, fixedMs, knownAt, knownMs } = nodes
  const linkTo = unknownLinkMs.map((ms, index) => {
    let least = ms
    for (let link = at(knownAt, index); link < at(knownAt, index + 1); link++)
      least = Math.min(least, at(knownMs, link))
    return least + at(fixedMs, index)
  })
  const rest = new Float64Array(nodes.size).fill(Number.POSITIVE_INFINITY)
  const afterLeaving = new Float64Array(span.end + 1).fill(Number.POSITIVE_INFINITY)
  for (let layer = span.end - 1; layer >= span.start; layer--) {
    for (const [index, holder] of holders.entries()) {
      if (at(first, index) > layer || at(end, index) <= layer) continue
      const cell = at(offset, index) + layer - at(first, index)
      const isLast = layer + 1 === span.end
      const leaving = isLast ? linkMs(holder.rttMs, holder) : at(afterLeaving, layer + 1)
      const staying = layer + 1 < at(end, index) ? at(rest, cell + 1) : Number.POSITIVE_INFINITY
      rest[cell] = at(msPerLayer, index) + Math.min(leaving, staying)
      afterLeaving[layer] = Math.min(at(afterLeaving, layer), at(rest, cell) + at(linkTo, index))
    }
  }
  return rest
}

function at(list: Int32Array | Float64Array, index: number): number {
  return list[index] ?? Number.NaN
}
