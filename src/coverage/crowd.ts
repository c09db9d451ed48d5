import type { Advert } from './advert.ts'

/**
 * Who a node keeps when a swarm is too large to be known whole (swarm.md §2): of every group of layers the 16 nearest to
 * itself (and a few more, until there are too many), where the distance of two nodes is the XOR of the beginnings of their
 * address keys. Nodes that are near each other keep nearly the same ones, so signs of life have short ways; and since
 * everybody is near somebody else, the load is spread over all.
 */
export interface Reach {
  /** The beginning of the address key, 32 bits. */
  readonly position: number
  /** For each group that has more than are kept: the greatest distance of interest. Groups not named are wanted whole. */
  readonly radii: ReadonlyMap<number, number>
}

/** Of a node that wants to know of everybody. */
export const EVERYBODY: Reach = { position: 0, radii: new Map() }

/** So many more may come before the farthest are let go: else each coming and going would change whom a node wants. */
const SPARE = 4
/** A radius within which there are too few grows so much at a time. */
const GROWTH = 1.05

/** Layers of one group: as many as share a meeting point (rendezvous.ts). */
const GROUP_LAYERS = 4
const KEPT_PER_GROUP = 16
/** Nodes without layers: relays, and those that only look. */
const RELAYS = 0xffff
const GUESTS = 0xfffe

export function positionOf(addressKey: Uint8Array): number {
  return new DataView(addressKey.buffer, addressKey.byteOffset).getUint32(0)
}

const groups = new WeakMap<Advert, readonly number[]>()

/** 16 bits each; two groups that share a number are cut like the more distant one of them. */
function groupsOf(advert: Advert): readonly number[] {
  const known = groups.get(advert)
  if (known !== undefined) return known
  const found = new Set<number>()
  for (const { modelId, span } of advert.serving) {
    const model = ((modelId[0] ?? 0) << 8) | (modelId[1] ?? 0)
    const last = Math.floor((span.end - 1) / GROUP_LAYERS)
    for (let group = Math.floor(span.start / GROUP_LAYERS); group <= last; group++) found.add(model ^ group)
  }
  if (found.size === 0) found.add(advert.relay ? RELAYS : GUESTS)
  groups.set(advert, [...found])
  return [...found]
}

function distance(advert: Advert, position: number): number {
  return (positionOf(advert.addressKey) ^ position) >>> 0
}

/** How far a node at `position` looks, given whom it knows and how far it looked before. */
export function reachOf(adverts: readonly Advert[], position: number, before: Reach = EVERYBODY): Reach {
  const byGroup = new Map<number, number[]>([...before.radii.keys()].map((group) => [group, []]))
  for (const advert of adverts) {
    const far = distance(advert, position)
    for (const group of groupsOf(advert)) {
      const distances = byGroup.get(group)
      if (distances === undefined) byGroup.set(group, [far])
      else distances.push(far)
    }
  }
  const radii = new Map<number, number>()
  for (const [group, distances] of byGroup) {
    const radius = radiusOf(distances, before.radii.get(group) ?? Number.POSITIVE_INFINITY)
    if (radius < 2 ** 32) radii.set(group, radius)
  }
  return { position, radii }
}

function radiusOf(distances: readonly number[], before: number): number {
  const count = distances.filter((far) => far <= before).length
  if (count < KEPT_PER_GROUP) return Math.ceil(before * GROWTH)
  if (count <= KEPT_PER_GROUP + SPARE) return before
  return [...distances].sort((a, b) => a - b)[KEPT_PER_GROUP - 1] ?? before
}

/** True when the advert counts in at least one of its groups. */
export function isWithin(advert: Advert, { position, radii }: Reach): boolean {
  if (radii.size === 0) return true
  const far = distance(advert, position)
  return groupsOf(advert).some((group) => far <= (radii.get(group) ?? Number.POSITIVE_INFINITY))
}

/** How many there are in all, judged by how densely the kept ones lie. */
export function estimatePeers(adverts: readonly Advert[], reach: Reach): number {
  let sum = 0
  for (const advert of adverts) {
    if (!isWithin(advert, reach)) continue
    const shares = groupsOf(advert).map((group) => ((reach.radii.get(group) ?? 2 ** 32 - 1) + 1) / 2 ** 32)
    sum += 1 / Math.max(...shares)
  }
  return sum
}
