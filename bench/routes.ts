/**
 * Route choice among 1,000 peers over 80 layers: how long it takes, and how much worse a chosen route is than the best one,
 * by the same figures that the choice has, and by the true latencies of which it knows a few.
 */

import { createRandom } from '../src/base/random.ts'
import type { LayerHolder } from '../src/coverage/map.ts'
import { findRoute, type Route } from '../src/coverage/route.ts'
import { linkMs, rttBetween } from '../src/coverage/route-costs.ts'
import { benchOptions, median, quantile, reportFigures } from './lib/harness.ts'

const options = benchOptions()
const PEERS = 1_000
const LAYERS = 80
const MAX_HOPS = 8
const SWARMS = options.quick ? 6 : 40
const REPEATS = options.quick ? 5 : 20
/** Round trips that an advert tells (swarm.md §2), of the nearest among those that are measured. */
const TOLD = 5
const MEASURED = 16
const NEAR_MS = 1
const FAR_MS = 200

/** In [0, 1). */
function uniform(seed: number): () => number {
  const bits = createRandom(seed)
  return () => bits() / 2 ** 32
}

interface World {
  readonly holders: readonly LayerHolder[]
  trueRttMs(a: LayerHolder, b: LayerHolder): number
}

/** Peers on a square whose diagonal is the farthest distance; the entry stands at a corner of its own choice. */
function createWorld(seed: number): World {
  const random = uniform(seed)
  const places = new Map<string, readonly [number, number]>()
  const side = (FAR_MS - NEAR_MS) / Math.SQRT2
  const between = (a: readonly [number, number], b: readonly [number, number]) =>
    NEAR_MS + Math.hypot(a[0] - b[0], a[1] - b[1])
  const entry = [random() * side, random() * side] as const
  const names = Array.from({ length: PEERS }, (_, index) => `p${index}`)
  for (const name of names) places.set(name, [random() * side, random() * side])
  const placeOf = (name: string) => places.get(name) ?? entry
  const holders = names.map((address): LayerHolder => {
    const layers = 10 + Math.floor(random() * 20)
    const start = Math.floor(random() * (LAYERS - layers + 1))
    const seen = Array.from({ length: MEASURED }, () => names[Math.floor(random() * PEERS)] ?? '')
    const told = seen
      .filter((other) => other !== address)
      .map((other) => [other, between(placeOf(address), placeOf(other))] as const)
      .sort((a, b) => a[1] - b[1])
      .slice(0, TOLD)
    return {
      address,
      span: { start, end: start + layers },
      state: 'online',
      numericsClass: '00',
      decodeMs: 0.3 + random() * 2.7,
      freeKvTokens: 8_192,
      relayed: random() < 0.2,
      rttMs: between(entry, placeOf(address)),
      neighbourRttMs: new Map(told),
    }
  })
  return { holders, trueRttMs: (a, b) => between(placeOf(a.address), placeOf(b.address)) }
}

type Rtt = (from: LayerHolder, to: LayerHolder) => number | null

/** The cheapest way over every pair of peers; it may use one twice, so no route can be better. */
function optimumMs(holders: readonly LayerHolder[], rttOf: Rtt): number {
  let begin = holders.map((holder) => {
    const costs = new Float64Array(LAYERS + 1).fill(Number.POSITIVE_INFINITY)
    if (holder.span.start === 0) costs[0] = linkMs(holder.rttMs, holder)
    return costs
  })
  let best = Number.POSITIVE_INFINITY
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    const leave = holders.map((holder, index) => leaveCosts(holder, begin[index] ?? new Float64Array(0)))
    for (const [index, holder] of holders.entries()) {
      best = Math.min(best, (leave[index]?.[LAYERS] ?? Number.POSITIVE_INFINITY) + linkMs(holder.rttMs, holder))
    }
    begin = holders.map((to, index) => {
      const costs = new Float64Array(LAYERS + 1).fill(Number.POSITIVE_INFINITY)
      for (const [other, from] of holders.entries()) {
        if (other === index || from.span.end < to.span.start || from.span.start >= to.span.end) continue
        const link = linkMs(rttOf(from, to), to)
        for (let layer = Math.max(to.span.start, from.span.start + 1); layer <= from.span.end; layer++) {
          if (layer >= to.span.end) break
          const cost = (leave[other]?.[layer] ?? Number.POSITIVE_INFINITY) + link
          if (cost < (costs[layer] ?? 0)) costs[layer] = cost
        }
      }
      return costs
    })
  }
  return best
}

function leaveCosts({ span, decodeMs }: LayerHolder, begin: Float64Array): Float64Array {
  const costs = new Float64Array(LAYERS + 1).fill(Number.POSITIVE_INFINITY)
  let best = Number.POSITIVE_INFINITY
  for (let layer = span.start; layer < span.end; layer++) {
    best = Math.min(best, begin[layer] ?? Number.POSITIVE_INFINITY) + decodeMs
    costs[layer + 1] = best
  }
  return costs
}

/** What a route's step really takes. */
function trueMs({ hops, homeMs }: Route, { trueRttMs }: World): number {
  return hops.reduce((sum, { holder, computeMs, linkMs: first }, index) => {
    const before = hops[index - 1]?.holder
    return sum + computeMs + (before === undefined ? first : linkMs(trueRttMs(before, holder), holder))
  }, homeMs)
}

const request = { span: { start: 0, end: LAYERS }, maxContext: 4_096, maxHops: MAX_HOPS, modelName: 'bench' }
const times: number[] = []
const ratios: number[] = []
const trueRatios: number[] = []
const used = new Set<string>()
for (let swarm = 0; swarm < SWARMS; swarm++) {
  const world = createWorld(1 + swarm)
  const best = optimumMs(world.holders, rttBetween)
  const trueBest = optimumMs(world.holders, world.trueRttMs)
  const random = uniform(1_000 + swarm)
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const startedMs = performance.now()
    const route = findRoute(world.holders, { ...request, random })
    // The first ones run before the compiler has looked at it.
    if (swarm > 0) times.push(performance.now() - startedMs)
    ratios.push(route.decodeMs / best)
    trueRatios.push(trueMs(route, world) / trueBest)
    for (const { holder } of route.hops) used.add(`${swarm} ${holder.address}`)
  }
}

const figures = {
  routeMs: median(times),
  routeP99Ms: quantile(times, 0.99),
  worstRatio: Math.max(...ratios),
  medianRatio: median(ratios),
  trueMedianRatio: median(trueRatios),
  trueWorstRatio: Math.max(...trueRatios),
  peersUsed: used.size / SWARMS,
}
const show = (value: number) => value.toFixed(2).padStart(8)
console.log(
  `${PEERS} peers, ${LAYERS} layers, latencies ${NEAR_MS}–${FAR_MS} ms, ${SWARMS} swarms × ${REPEATS} requests\n`,
)
console.log(`route found in           ${show(figures.routeMs)} ms, p99 ${figures.routeP99Ms.toFixed(2)} ms (goal ≤ 5)`)
console.log(
  `chosen / best estimate   ${show(figures.medianRatio)} median, worst ${figures.worstRatio.toFixed(3)} (goal ≤ 1.1)`,
)
console.log(
  `the same by true latency ${show(figures.trueMedianRatio)} median, worst ${figures.trueWorstRatio.toFixed(2)} (${TOLD} links told a peer)`,
)
console.log(`peers used               ${show(figures.peersUsed)} a swarm in ${REPEATS} requests`)
reportFigures('routes', figures, options)
