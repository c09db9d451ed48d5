/** Whole nodes' knowledge of each other on virtual time: minutes of a swarm in a moment, with clocks that are wrong. */
import { describe, expect, it } from 'vitest'
import { createSimClock } from '../../../bench/lib/sim-clock.ts'
import { createSimNetwork } from '../../../bench/lib/sim-network.ts'
import { createSimNode, type SimNode, type SimNodeOptions, type SimWorld } from '../../../bench/lib/sim-node.ts'
import { createRandom } from './swarm-simulation.ts'

const SECOND = 1_000
const DAY = 86_400_000
const never = new AbortController().signal

function createWorld(): SimWorld {
  const [clock, random] = [createSimClock(), createRandom(7)]
  return { clock, random, network: createSimNetwork(clock, random), contacts: new Map(), adverts: new Map() }
}

async function join(world: SimWorld, others: readonly SimNode[], change: Partial<SimNodeOptions> = {}) {
  const node = await createSimNode(
    { span: { start: 0, end: 4 }, isBehindNat: false, honesty: 'honest', ...change },
    world,
  )
  for (const { peerId } of others.slice(0, 2)) {
    node.link.node.connect({ peerId, addrs: [] }, { signal: never }).catch(() => {})
  }
  await node.publish(4_096)
  return node
}

async function swarmOf(world: SimWorld, count: number, change: Partial<SimNodeOptions> = {}): Promise<SimNode[]> {
  const nodes: SimNode[] = []
  for (let i = 0; i < count; i++) nodes.push(await join(world, nodes, i === 3 ? change : {}))
  await world.clock.runUntil(30 * SECOND)
  return nodes
}

/** How many of `viewers` take `node` for alive. */
function seenBy(world: SimWorld, node: SimNode, viewers: readonly SimNode[]): number {
  return viewers.filter(({ core: { sources } }) => {
    const entry = sources.table.get(node.addressKey)
    return entry !== undefined && sources.table.isLive(entry, world.clock.monotonicMs())
  }).length
}

async function pass(world: SimWorld, ms: number): Promise<void> {
  await world.clock.runUntil(world.clock.monotonicMs() + ms)
}

/** Ms until nobody sees it any more. */
async function goneAfter(world: SimWorld, node: SimNode, viewers: readonly SimNode[]): Promise<number> {
  const startMs = world.clock.monotonicMs()
  while (seenBy(world, node, viewers) > 0 && world.clock.monotonicMs() - startMs < 300 * SECOND) await pass(world, 500)
  return world.clock.monotonicMs() - startMs
}

describe('a swarm of ten', () => {
  it('knows itself, and goes on to, with nothing but heartbeats', async () => {
    const world = createWorld()
    const nodes = await swarmOf(world, 10)
    for (const minutes of [0, 4]) {
      await world.clock.runUntil(30 * SECOND + minutes * 60 * SECOND)
      for (const node of nodes) expect(seenBy(world, node, nodes)).toBe(10)
    }
  })

  it('lets one go at its farewell within 2 s, and never takes it back', async () => {
    const world = createWorld()
    const nodes = await swarmOf(world, 10)
    const [leaving, ...rest] = nodes
    if (leaving === undefined) throw new Error('nobody')
    await leaving.stop(true)
    expect(await goneAfter(world, leaving, rest)).toBeLessThanOrEqual(2 * SECOND)
    await pass(world, 130 * SECOND)
    expect(seenBy(world, leaving, rest)).toBe(0)
  })

  it.each([
    ['right', 0],
    ['a day ahead', DAY],
    ['a day behind', -DAY],
  ])('with a clock that is %s: a node is there while it lives, and gone 120 s after it died', async (_, error) => {
    const world = createWorld()
    const nodes = await swarmOf(world, 6, { clockErrorMs: error })
    const odd = nodes[3]
    if (odd === undefined) throw new Error('nobody')
    const rest = nodes.filter((node) => node !== odd)
    expect(seenBy(world, odd, rest)).toBe(5)
    await pass(world, 200 * SECOND)
    expect(seenBy(world, odd, rest)).toBe(5)
    for (const node of rest) expect(seenBy(world, node, [odd])).toBe(1)
    // As with kill -9 on a machine that goes down with it: nobody's connection closes.
    odd.core.keeper.stop()
    odd.core.gossip.stop()
    world.network.remove(odd.peerId, true)
    expect(await goneAfter(world, odd, rest)).toBeLessThanOrEqual(120 * SECOND)
  })

  it('agrees again after ten came at once', async () => {
    const world = createWorld()
    const nodes = await swarmOf(world, 5)
    nodes.push(...(await Promise.all(Array.from({ length: 10 }, () => join(world, nodes)))))
    await pass(world, 30 * SECOND)
    for (const node of nodes) expect(seenBy(world, node, nodes)).toBe(15)
  })
})
