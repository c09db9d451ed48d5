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

export function describeNodes(holders: readonly LayerHolder[], request: NodesRequest): RouteNodes {
  const { span, factors, maxContext } = request
  const n = holders.length
  const nodes = { first: new Int32Array(n), end: new Int32Array(n), offset: new Int32Array(n) }
  const msPerLayer = new Float64Array(n)
  const unknownLinkMs = new Float64Array(n)
  const fixedMs = Float64Array.from(holders, (holder) => shortKvMs(holder, maxContext))
  let size = 0
  for (const [index, holder] of holders.entries()) {
    const factor = factors?.[index] ?? 1
    nodes.first[index] = Math.max(holder.span.start, span.start)
    nodes.end[index] = Math.min(holder.span.end, span.end)
    nodes.offset[index] = size
    size += Math.max(0, at(nodes.end, index) - at(nodes.first, index)) + 1
    msPerLayer[index] = holder.decodeMs * factor
    unknownLinkMs[index] = linkMs(null, holder) * factor
  }
  const without = { ...nodes, size, msPerLayer, unknownLinkMs, fixedMs, ...knownLinks(holders, factors) }
  return { ...without, restMs: leastMs(holders, span, without) }
}

/** Of two ends that tell a round trip the one to which the link leads is believed, as in rttBetween. */
function knownLinks(
  holders: readonly LayerHolder[],
  factors: readonly number[] | undefined,
): Pick<RouteNodes, 'knownAt' | 'knownFrom' | 'knownMs'> {
  const indexOf = new Map(holders.map(({ address }, index) => [address, index]))
  const links: { readonly from: number; readonly to: number; readonly ms: number }[] = []
  const knownAt = new Int32Array(holders.length + 1)
  const add = (from: number, to: number, holder: LayerHolder, rttMs: number) => {
    links.push({ from, to, ms: linkMs(rttMs, holder) * (factors?.[to] ?? 1) })
    knownAt[to + 1] = at(knownAt, to + 1) + 1
  }
  for (const [index, holder] of holders.entries()) {
    for (const [address, rttMs] of holder.neighbourRttMs) {
      const other = indexOf.get(address)
      const neighbour = other === undefined ? undefined : holders[other]
      if (other === undefined || neighbour === undefined || other === index) continue
      add(other, index, holder, rttMs)
      if (!neighbour.neighbourRttMs.has(holder.address)) add(index, other, neighbour, rttMs)
    }
  }
  for (let to = 0; to < holders.length; to++) knownAt[to + 1] = at(knownAt, to + 1) + at(knownAt, to)
  const free = knownAt.slice()
  const knownFrom = new Int32Array(links.length)
  const knownMs = new Float64Array(links.length)
  for (const { from, to, ms } of links) {
    const place = at(free, to)
    free[to] = place + 1
    knownFrom[place] = from
    knownMs[place] = ms
  }
  return { knownAt, knownFrom, knownMs }
}

/** A bound from behind: as if every holder could be reached over its own shortest link. */
function leastMs(holders: readonly LayerHolder[], span: Span, nodes: Omit<RouteNodes, 'restMs'>): Float64Array {
  const { first, end, offset, msPerLayer, unknownLinkMs, fixedMs, knownAt, knownMs } = nodes
  const homeMs = Float64Array.from(holders, (holder) => linkMs(holder.rttMs, holder))
  const linkTo = unknownLinkMs.map((ms, index) => {
    let least = ms
    for (let link = at(knownAt, index); link < at(knownAt, index + 1); link++)
      least = Math.min(least, at(knownMs, link))
    return least + at(fixedMs, index)
  })
  const rest = new Float64Array(nodes.size).fill(Number.POSITIVE_INFINITY)
  const afterLeaving = new Float64Array(span.end + 1).fill(Number.POSITIVE_INFINITY)
  for (let layer = span.end - 1; layer >= span.start; layer--) {
    let least = Number.POSITIVE_INFINITY
    for (let index = 0; index < holders.length; index++) {
      if (at(first, index) > layer || at(end, index) <= layer) continue
      const cell = at(offset, index) + layer - at(first, index)
      const leaving = layer + 1 === span.end ? at(homeMs, index) : at(afterLeaving, layer + 1)
      const staying = layer + 1 < at(end, index) ? at(rest, cell + 1) : Number.POSITIVE_INFINITY
      rest[cell] = at(msPerLayer, index) + Math.min(leaving, staying)
      least = Math.min(least, at(rest, cell) + at(linkTo, index))
    }
    afterLeaving[layer] = least
  }
  return rest
}

export function at(list: Int16Array | Int32Array | Float64Array, index: number): number {
  return list[index] ?? Number.NaN
}
