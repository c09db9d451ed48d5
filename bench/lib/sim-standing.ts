/** A simulated swarm that has stood for long when the simulation begins: everybody knows whom a node keeps. */
import { coverageLimits } from '../../src/base/limits.ts'
import { positionOf } from '../../src/coverage/crowd.ts'
import type { SimNode } from './sim-node.ts'

/** Just so many that a node sees that it stands in a crowd, and keeps of them those whom it would keep of all. */
const TOLD = coverageLimits.crowd + 10

interface Placed {
  readonly node: SimNode
  readonly position: number
}

/** Tells each node of those nearest to it, its whole swarm when that is small; the node itself lets go of whom it does not keep. */
export function acquaint(nodes: readonly SimNode[]): void {
  const placed = nodes
    .map((node): Placed => ({ node, position: positionOf(node.addressKey) }))
    .sort((a, b) => a.position - b.position)
  for (const { node, position } of placed) node.meet(nearestTo(position, placed).map((other) => other.node))
}

function nearestTo(position: number, placed: readonly Placed[]): Placed[] {
  const far = ({ position: other }: Placed) => (other ^ position) >>> 0
  return shareBeginning(position, placed)
    .sort((a, b) => far(a) - far(b))
    .slice(0, TOLD + 1)
}

/** Those whose positions begin with the same bits, as many bits as leave enough of them: no other is nearer. */
function shareBeginning(position: number, placed: readonly Placed[]): Placed[] {
  let [from, until] = [0, placed.length]
  for (let bit = 31; bit >= 0; bit--) {
    const size = 2 ** bit
    const start = Math.floor(position / size) * size
    const [first, last] = [indexOf(start, placed), indexOf(start + size, placed)]
    if (last - first <= TOLD) break
    from = first
    until = last
  }
  return placed.slice(from, until)
}

/** Of the first one at or after a position. */
function indexOf(position: number, placed: readonly Placed[]): number {
  let [low, high] = [0, placed.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((placed[middle]?.position ?? 0) < position) low = middle + 1
    else high = middle
  }
  return low
}
