/** Fifty nodes of mixed sizes share a model of 80 layers (a 70B shape in q4), on a virtual clock. */
import { expect, test } from 'vitest'
import { type Assigned, chooseWindow } from '../../../src/coverage/assign.ts'
import { fitLayers } from '../../../src/coverage/fit.ts'
import { balance, createRandom, createSimulation, hopsOf, type SimulatedNode } from './swarm-simulation.ts'

const GB = 1e9
const nLayers = 80
const maxHops = 8
const hourMs = 3_600_000

/** Hidden 8,192, MLP 28,672, 8 KV heads: 0.45 GB of q4 a layer, 1.7 GB as the source has it. */
function fits(memoryBytes: number): number {
  const layer = { packedBytes: 0.454 * GB, rawBytes: 1.71 * GB, kvBytesPerToken: 8_192 }
  const room = { kvTokens: 8_192, processBytes: 0.25 * GB, memoryBytes, diskBytes: 1_000 * GB, ends: null }
  return Math.max(1, fitLayers({ nLayers, layer, ...room }).layers)
}

function nodes(count: number, sizes: readonly number[], random: () => number): SimulatedNode[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `n${i}`,
    fits: fits((sizes[i % sizes.length] ?? 2) * GB),
    msPerLayer: 5 + 25 * random(),
    // 1.7 GB at about 1 Gbit/s.
    fetchMs: 15_000,
  }))
}

const clock = { nLayers, maxHops, newsMs: 5_000, silenceMs: 20_000 }

/** The best that joining one after the other, without a hurry, has reached in a few orders. */
function achievable(all: readonly SimulatedNode[]): number {
  const orders = [
    [...all].sort((a, b) => b.fits - a.fits),
    [...all].sort((a, b) => a.fits - b.fits),
    [...all].sort((a, b) => a.msPerLayer - b.msPerLayer),
  ]
  const reached = orders.map((order) => {
    const peers: Assigned[] = []
    for (const { id, msPerLayer, fits: size } of order) {
      peers.push({ id, msPerLayer, span: chooseWindow(peers, size, { nLayers, maxHops }).span })
    }
    return balance(peers, nLayers).weakest
  })
  return Math.max(...reached)
}

test.each([1, 2])('everybody joins within ten minutes, then little moves (seed %i)', (seed) => {
  const random = createRandom(seed)
  const sim = createSimulation({ ...clock, random })
  const all = nodes(50, [2, 4, 8, 16, 32, 64], random)
  for (const node of all) sim.join(node, 600_000 * random())
  sim.run(hourMs)
  const { weakest } = balance(sim.online(), nLayers)
  expect(sim.online().length).toBe(50)
  expect(hopsOf(sim.online(), nLayers)).toBeLessThanOrEqual(maxHops)
  expect(weakest).toBeGreaterThanOrEqual(0.75 * achievable(all))
  const before = all.map(({ id }) => sim.movesOf(id).length)
  sim.run(3 * hourMs)
  for (const [i, { id }] of all.entries()) {
    expect(sim.movesOf(id).length - (before[i] ?? 0)).toBeLessThanOrEqual(2)
  }
  expect(balance(sim.online(), nLayers).weakest).toBeGreaterThanOrEqual(weakest)
})

test.each([4])('all holders of a layer die: others take it within three minutes (seed %i)', (seed) => {
  const random = createRandom(seed)
  const sim = createSimulation({ ...clock, random })
  for (const node of nodes(50, [2, 4, 8, 16], random)) sim.join(node, 600_000 * random())
  sim.run(2 * hourMs)
  expect(hopsOf(sim.online(), nLayers)).toBeLessThanOrEqual(maxHops)
  const deathMs = sim.nowMs() + 1_000
  const doomed = sim.online().filter(({ span }) => span.start <= 40 && 40 < span.end)
  expect(doomed.length).toBeGreaterThan(0)
  for (const { id } of doomed) sim.kill(id, deathMs)
  sim.run(deathMs)
  expect(hopsOf(sim.announced(), nLayers)).toBe(Number.POSITIVE_INFINITY)
  let coveredMs: number | undefined
  sim.run(deathMs + 600_000, (nowMs) => {
    if (coveredMs === undefined && Number.isFinite(hopsOf(sim.announced(), nLayers))) coveredMs = nowMs
  })
  expect((coveredMs ?? Number.POSITIVE_INFINITY) - deathMs).toBeLessThanOrEqual(180_000)
  sim.run(deathMs + hourMs)
  expect(hopsOf(sim.online(), nLayers)).toBeLessThanOrEqual(maxHops)
})

test.each([7, 8, 9])('two newcomers of the same second do not stay on one window (seed %i)', (seed) => {
  const random = createRandom(seed)
  const sim = createSimulation({ ...clock, random })
  const [first, second] = nodes(2, [32], random)
  if (first === undefined || second === undefined) throw new Error('no nodes')
  sim.join(first, 0)
  sim.join(second, 0)
  sim.run(1_000)
  const [a, b] = sim.announced()
  expect(a?.span).toEqual(b?.span)
  sim.run(300_000)
  const [one, other] = sim.announced()
  expect(one?.span).not.toEqual(other?.span)
  expect(hopsOf(sim.announced(), nLayers)).toBe(2)
})

test('a node that finds a gap does not wait for others to leave it', () => {
  const random = createRandom(10)
  const sim = createSimulation({ ...clock, random })
  const [big, small] = nodes(2, [64, 2], random)
  if (big === undefined || small === undefined) throw new Error('no nodes')
  sim.join({ ...big, fits: 40 }, 0)
  sim.join({ ...small, fits: 40 }, 60_000)
  sim.run(hourMs)
  expect(hopsOf(sim.online(), nLayers)).toBe(2)
  expect([...sim.movesOf(big.id), ...sim.movesOf(small.id)]).toEqual([])
})
