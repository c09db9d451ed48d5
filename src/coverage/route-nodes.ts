import type { Span } from '../base/span.ts'
import type { LayerHolder } from './map.ts'
import { linkMs, shortKvMs } from './route-costs.ts'

/** Holders and links as flat tables, by index of the holder: what a search goes through again and again. */
export interface RouteNodes {
  readonly first: Int32Array
  readonly end: Int32Array
  /** Where a holder's layers begin in the tables of a hop: entry `offset + layer − first`. */
  readonly offset: Int32Array
  readonly size: number
  readonly msPerLayer: Float64Array
  readonly unknownLinkMs: Float64Array
  /** Between this node and a holder, to it and back from it. */
  readonly entryMs: Float64Array
  /** Holders to which a link is known, and its ms: those of one holder lie from `knownAt[index]` to `knownAt[index + 1]`. */
  readonly knownAt: Int32Array
  readonly knownFrom: Int32Array
  readonly knownMs: Float64Array
  /** What a holder costs more for want of room. */
  readonly fixedMs: Float64Array
  /** What the way costs at least from where a holder begins at a layer, as the tables of a hop. */
  readonly restMs: Float64Array
}

export interface NodesRequest {
  readonly span: Span
  readonly maxContext: number
  /** For each holder, by index: what its costs are multiplied with. */
  readonly factors?: readonly number[] | undefined
}

export interface SearchRequest extends NodesRequest {
  readonly maxHops: number
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
  readonly penalised?: ReadonlySet<string> | undefined
  readonly clash?: ((a: string, b: string) => boolean) | undefined
}

/** One hop of the way found: the holder's index, and the first layer that it computes. */
export interface FoundHop {
  readonly index: number
  readonly start: number
}

export function describeNodes(holders: readonly LayerHolder[], request: NodesRequest): RouteNodes {
  const { span, factors, maxContext } = request
  const n = holders.length
  const nodes = { first: new Int32Array(n), end: new Int32Array(n), offset: new Int32Array(n) }
  const msPerLayer = new Float64Array(n)
  const unknownLinkMs = new Float64Array(n)
  const fixedMs = Float64Array.from(holders, (holder) => shortKvMs(holder, maxContext))
  const entryMs = Float64Array.from(holders, (holder, index) => linkMs(holder.rttMs, holder) * (factors?.[index] ?? 1))
  let size = 0
  for (const [index, holder] of holders.entries()) {
    const factor = factors?.[index] ?? 1
    nodes.first[index] = Math.max(holder.span.start, span.start)
    nodes.end[index] = Math.min(holder.span.end, span.end)
    nodes.offset[index] = size
    size += Math.max(0, intAt(nodes.end, index) - intAt(nodes.first, index)) + 1
    msPerLayer[index] = holder.decodeMs * factor
    unknownLinkMs[index] = linkMs(null, holder) * factor
  }
  const without = { ...nodes, size, msPerLayer, unknownLinkMs, entryMs, fixedMs, ...knownLinks(holders, factors) }
  return { ...without, restMs: leastMs(holders, span, without) }
}

/** Links by the holder to which they lead: those to one lie from `at[index]` to `at[index + 1]`. */
interface Links {
  readonly at: Int32Array
  readonly from: Int32Array
  readonly ms: Float64Array
}

/** Of two ends that tell a round trip the one to which the link leads is believed, as in rttBetween. */
function knownLinks(
  holders: readonly LayerHolder[],
  factors: readonly number[] | undefined,
): Pick<RouteNodes, 'knownAt' | 'knownFrom' | 'knownMs'> {
  const told = toldLinks(holders)
  // Besides, each told by one end alone leads back to the other.
  const knownAt = told.at.slice()
  eachOneSided(told, (_, to) => {
    knownAt[to + 1] = intAt(knownAt, to + 1) + 1
  })
  let before = 0
  for (let index = 0; index < holders.length; index++) {
    const own = intAt(told.at, index + 1) - intAt(told.at, index)
    const back = intAt(knownAt, index + 1) - intAt(told.at, index + 1)
    before += own + back
    knownAt[index + 1] = before
  }
  const free = knownAt.slice()
  const [knownFrom, knownMs] = [new Int32Array(before), new Float64Array(before)]
  const add = (from: number, to: number, rttMs: number) => {
    const holder = holders[to]
    const place = intAt(free, to)
    if (holder === undefined) return
    free[to] = place + 1
    knownFrom[place] = from
    knownMs[place] = linkMs(rttMs, holder) * (factors?.[to] ?? 1)
  }
  for (let to = 0; to < holders.length; to++) {
    for (let link = intAt(told.at, to); link < intAt(told.at, to + 1); link++) {
      add(intAt(told.from, link), to, at(told.ms, link))
    }
  }
  eachOneSided(told, add)
  return { knownAt, knownFrom, knownMs }
}

/** Round trips in ms as the holders tell them, of those that are holders, too. */
function toldLinks(holders: readonly LayerHolder[]): Links {
  const indexOf = new Map(holders.map(({ address }, index) => [address, index]))
  const most = holders.reduce((sum, { neighbourRttMs }) => sum + neighbourRttMs.size, 0)
  const told = { at: new Int32Array(holders.length + 1), from: new Int32Array(most), ms: new Float64Array(most) }
  let count = 0
  for (const [index, holder] of holders.entries()) {
    for (const [address, rttMs] of holder.neighbourRttMs) {
      const other = indexOf.get(address)
      if (other === undefined || other === index) continue
      told.from[count] = other
      told.ms[count] = rttMs
      count++
    }
    told.at[index + 1] = count
  }
  return told
}

/** What is told by one end alone, the other way around. */
function eachOneSided(told: Links, use: (from: number, to: number, rttMs: number) => void): void {
  for (let index = 0; index + 1 < told.at.length; index++) {
    for (let link = intAt(told.at, index); link < intAt(told.at, index + 1); link++) {
      const other = intAt(told.from, link)
      let both = false
      for (let back = intAt(told.at, other); back < intAt(told.at, other + 1); back++) {
        if (intAt(told.from, back) === index) both = true
      }
      if (!both) use(index, other, at(told.ms, link))
    }
  }
}

/**
 * What the rest of the way costs at least, from behind: the cheapest way that may use a holder twice and as many hops as it
 * likes. Most often that is nearly what the best way costs, so that a search need look at little else.
 */
function leastMs(holders: readonly LayerHolder[], span: Span, nodes: Omit<RouteNodes, 'restMs'>): Float64Array {
  const { first, end, offset, msPerLayer, unknownLinkMs, fixedMs, knownAt, knownFrom, knownMs } = nodes
  const rest = new Float64Array(nodes.size).fill(Number.POSITIVE_INFINITY)
  const here = createHoldersHere(nodes, span)
  // From after the layer that is looked at: of each holder over links that are known, and of all over one that is not.
  const leaveMs = Float64Array.from(holders, (holder) => linkMs(holder.rttMs, holder))
  let strangeMs = Number.POSITIVE_INFINITY
  for (let layer = span.end - 1; layer >= span.start; layer--) {
    const n = here.moveTo(layer)
    let nextStrangeMs = Number.POSITIVE_INFINITY
    for (let place = 0; place < n; place++) {
      const index = intAt(here.list, place)
      const cell = intAt(offset, index) + layer - intAt(first, index)
      const stayMs = layer + 1 < intAt(end, index) ? at(rest, cell + 1) : Number.POSITIVE_INFINITY
      const restMs = at(msPerLayer, index) + Math.min(at(leaveMs, index), strangeMs, stayMs)
      rest[cell] = restMs
      nextStrangeMs = Math.min(nextStrangeMs, restMs + at(unknownLinkMs, index) + at(fixedMs, index))
    }
    strangeMs = nextStrangeMs
    leaveMs.fill(Number.POSITIVE_INFINITY)
    for (let place = 0; place < n; place++) {
      const to = intAt(here.list, place)
      const restMs = at(rest, intAt(offset, to) + layer - intAt(first, to)) + at(fixedMs, to)
      // Over a link that nobody knows it would be as near.
      if (restMs >= strangeMs) continue
      for (let link = intAt(knownAt, to); link < intAt(knownAt, to + 1); link++) {
        const from = intAt(knownFrom, link)
        const costMs = restMs + at(knownMs, link)
        if (costMs < at(leaveMs, from)) leaveMs[from] = costMs
      }
    }
  }
  return rest
}

/** Who holds a layer, for going through the layers from the last to the first. */
function createHoldersHere({ first, end }: Pick<RouteNodes, 'first' | 'end'>, span: Span) {
  const endingAt = Array.from({ length: span.end + 1 }, (): number[] => [])
  for (let index = 0; index < end.length; index++) endingAt[intAt(end, index)]?.push(index)
  const list = new Int32Array(end.length)
  let count = 0
  return {
    list,
    /** How many of `list` hold it. */
    moveTo(layer: number): number {
      let kept = 0
      for (let place = 0; place < count; place++) {
        const index = intAt(list, place)
        if (intAt(first, index) <= layer) list[kept++] = index
      }
      for (const index of endingAt[layer + 1] ?? []) if (intAt(first, index) <= layer) list[kept++] = index
      count = kept
      return count
    },
  }
}

/** In the place of a holder: this node, or nobody yet. */
export const NOBODY = -1

/** What a link counts more; an index without a holder: this node. */
export function penaltyBetween(
  holders: readonly LayerHolder[],
  { penaltyMs, penalised }: Pick<SearchRequest, 'penaltyMs' | 'penalised'>,
  from: number,
  to: number,
): number {
  if (penaltyMs === undefined) return 0
  const [a, b] = [holders[from]?.address ?? null, holders[to]?.address ?? null]
  if (penalised !== undefined && !(a !== null && penalised.has(a)) && !(b !== null && penalised.has(b))) return 0
  return penaltyMs(a, b)
}

/** No identity is on a circuit twice (protocol.md §4), nor two that clash. */
export function exclude(
  holders: readonly LayerHolder[],
  { clash }: Pick<SearchRequest, 'clash'>,
  a: number,
  b: number,
): boolean {
  return a === b || clash?.(holders[a]?.address ?? '', holders[b]?.address ?? '') === true
}

/** One function for each kind of table: shared by both, it would be compiled for neither, and take twice as long. */
export function at(list: Float64Array, index: number): number {
  return list[index] ?? Number.NaN
}

export function intAt(list: Int32Array, index: number): number {
  return list[index] ?? Number.NaN
}
