import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import { gapsWithin, mapCoverage } from '../../../src/coverage/map.ts'
import { findRoute, SPREAD_SHARE } from '../../../src/coverage/route.ts'
import { rttBetween } from '../../../src/coverage/route-costs.ts'

function holder(address: string, start: number, end: number, more: Partial<LayerHolder> = {}): LayerHolder {
  return {
    address,
    span: { start, end },
    state: 'online',
    numericsClass: '00',
    decodeMs: 1,
    freeKvTokens: 1000,
    relayed: false,
    rttMs: 10,
    neighbourRttMs: new Map(),
    ...more,
  }
}

const request = { span: { start: 0, end: 12 }, maxContext: 100, maxHops: 8, modelName: 'M' }
const thrownBy = (work: () => unknown): LlmNodeError => {
  try {
    work()
  } catch (error) {
    return error as LlmNodeError
  }
  throw new Error('nothing was thrown')
}

describe('coverage map', () => {
  it('counts only holders that are online and names the gaps', () => {
    const holders = [holder('a', 0, 4), holder('b', 2, 6, { state: 'joining' }), holder('c', 8, 12)]
    expect(mapCoverage(holders, 12).replicas).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    expect(mapCoverage(holders, 12).gaps).toEqual([{ start: 4, end: 8 }])
    expect(gapsWithin(holders, { start: 3, end: 6 })).toEqual([{ start: 4, end: 6 }])
  })
})

describe('findRoute', () => {
  it('joins three spans in order', () => {
    const route = findRoute([holder('c', 8, 12), holder('a', 0, 4), holder('b', 4, 8)], request)
    expect(route.hops.map((hop) => [hop.holder.address, hop.span.start, hop.span.end])).toEqual([
      ['a', 0, 4],
      ['b', 4, 8],
      ['c', 8, 12],
    ])
  })

  it('cuts overlapping spans so that every layer is computed once', () => {
    const route = findRoute([holder('a', 0, 7), holder('b', 5, 12)], request)
    expect(route.hops[0]?.span.end).toBe(route.hops[1]?.span.start)
    expect(route.hops[1]?.span.end).toBe(12)
  })

  it('uses the middle of a span when only that is asked for', () => {
    const route = findRoute([holder('a', 0, 12)], { ...request, span: { start: 4, end: 7 } })
    expect(route.hops.map((hop) => hop.span)).toEqual([{ start: 4, end: 7 }])
  })

  it('prefers the faster replica, the known short link and the holder with free KV', () => {
    const slow = holder('slow', 0, 12, { decodeMs: 5 })
    expect(findRoute([slow, holder('fast', 0, 12)], request).hops[0]?.holder.address).toBe('fast')
    const far = holder('far', 0, 12, { rttMs: null })
    expect(findRoute([far, holder('near', 0, 12)], request).hops[0]?.holder.address).toBe('near')
    const full = holder('full', 0, 12, { freeKvTokens: 10 })
    expect(findRoute([full, slow], request).hops[0]?.holder.address).toBe('slow')
  })

  it('takes a neighbour with a measured link before an unmeasured one', () => {
    const a = holder('a', 0, 6, { neighbourRttMs: new Map([['c', 2]]) })
    const route = findRoute([a, holder('b', 6, 12), holder('c', 6, 12)], request)
    expect(route.hops[1]?.holder.address).toBe('c')
  })

  it('leaves out excluded, joining and draining holders, and says which layers are missing', () => {
    const holders = [holder('a', 0, 4), holder('b', 4, 8, { state: 'draining' }), holder('c', 8, 12)]
    const error = thrownBy(() => findRoute(holders, request))
    expect(error.code).toBe('COVERAGE_GAP')
    expect(error.message).toContain('4-7')
    expect(error.hint).toContain('--layers 4-7')
    const excluded = thrownBy(() => findRoute([holder('a', 0, 12)], { ...request, excluded: new Set(['a']) }))
    expect(excluded.code).toBe('COVERAGE_GAP')
  })

  it('says COVERAGE_FRAGMENTED when only a longer chain exists', () => {
    const holders = Array.from({ length: 12 }, (_, layer) => holder(`p${layer}`, layer, layer + 1))
    expect(thrownBy(() => findRoute(holders, request)).code).toBe('COVERAGE_FRAGMENTED')
    expect(findRoute(holders, { ...request, maxHops: 12 }).hops).toHaveLength(12)
  })

  it('never repeats an identity, and finds the cheapest of all chains (compared with trying them all)', () => {
    const span = fc
      .tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 6 }))
      .map(([a, n]) => [a, Math.min(6, a + n)])
    const anyHolders = fc.array(fc.tuple(span, fc.integer({ min: 1, max: 9 })), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(anyHolders, (list) => {
        const holders = list.map(([[start = 0, end = 0], ms], i) => holder(`p${i}`, start, end, { decodeMs: ms }))
        const small = { ...request, span: { start: 0, end: 6 }, maxHops: 3 }
        const wanted = cheapest(holders, 6, 3)
        if (wanted === Number.POSITIVE_INFINITY) {
          expect(() => findRoute(holders, small)).toThrow()
          return
        }
        const route = findRoute(holders, small)
        expect(new Set(route.hops.map((hop) => hop.holder.address)).size).toBe(route.hops.length)
        expect(route.decodeMs).toBeCloseTo(wanted, 6)
      }),
      { numRuns: 300 },
    )
  })

  it('spreads over holders that are about equally fast, and never takes a route that costs much more', () => {
    const holders = [holder('a', 0, 12), holder('b', 0, 12, { decodeMs: 1.02 }), holder('slow', 0, 12, { decodeMs: 2 })]
    const best = findRoute(holders, request).decodeMs
    const taken = new Set<string>()
    let draws = 0
    // Every fraction of ten, in an order without a pattern.
    const random = () => ((draws++ * 7) % 10) / 10
    for (let time = 0; time < 50; time++) {
      const route = findRoute(holders, { ...request, random })
      expect(route.decodeMs).toBeLessThanOrEqual(best * (1 + SPREAD_SHARE))
      taken.add(route.hops[0]?.holder.address ?? '')
    }
    expect([...taken].sort()).toEqual(['a', 'b'])
  })

  it('says what each link and hop is estimated to cost, and why it was chosen', () => {
    const holders = [
      holder('a', 0, 6),
      holder('b', 6, 12),
      holder('c', 6, 12, { decodeMs: 3 }),
      holder('d', 6, 12, { decodeMs: 5 }),
    ]
    const { hops, decodeMs, homeMs } = findRoute(holders, request)
    expect(hops.map(({ linkMs, computeMs, linkKnown }) => [linkMs, computeMs, linkKnown])).toEqual([
      [5.5, 6, true],
      [75.5, 6, false],
    ])
    expect(decodeMs).toBe(5.5 + 6 + 75.5 + 6 + homeMs)
    expect(hops.map(({ reason }) => reason)).toEqual(['alone in holding 0-5', 'fastest of 3'])
    const penaltyMs = (_from: string | null, to: string | null) => (to === 'b' ? 1e6 : 0)
    expect(findRoute(holders, { ...request, penaltyMs }).hops[1]).toMatchObject({
      holder: { address: 'c' },
      reason: 'fastest of 2; 1 failed lately',
    })
  })

  it('finds its way among many, with links that only one side has told, as one who tries every pair', () => {
    const many = fc.array(
      fc.record({
        start: fc.nat(5),
        layers: fc.integer({ min: 1, max: 5 }),
        ms: fc.integer({ min: 1, max: 9 }),
        rtt: fc.integer({ min: 1, max: 400 }),
      }),
      { minLength: 4, maxLength: 6 },
    )
    fc.assert(
      fc.property(
        many,
        fc.array(fc.tuple(fc.nat(5), fc.nat(5), fc.integer({ min: 1, max: 400 })), { maxLength: 12 }),
        (list, links) => {
          const holders = list.map(({ start, layers, ms, rtt }, index) =>
            holder(`p${index}`, start, Math.min(6, start + layers), {
              decodeMs: ms,
              rttMs: rtt,
              neighbourRttMs: new Map(
                links.flatMap(([from, to, told]) => (from === index && to !== index ? [[`p${to}`, told]] : [])),
              ),
            }),
          )
          const wanted = cheapestOfPairs(holders, 6, 3)
          const small = { ...request, span: { start: 0, end: 6 }, maxHops: 3 }
          if (wanted === Number.POSITIVE_INFINITY) expect(() => findRoute(holders, small)).toThrow()
          else expect(findRoute(holders, small).decodeMs).toBeLessThanOrEqual(wanted * 1.01)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('goes around a link with a penalty, and over it when nothing else is there', () => {
    const holders = [holder('a', 0, 6), holder('a2', 0, 6, { rttMs: 40 }), holder('b', 6, 12)]
    const without = (...links: string[]) => {
      const penaltyMs = (from: string | null, to: string | null) => (links.includes(`${from}>${to}`) ? 1e6 : 0)
      const { hops, decodeMs, penaltyMs: paid } = findRoute(holders, { ...request, penaltyMs })
      return { way: hops.map((hop) => hop.holder.address).join(''), paid, decodeMs }
    }
    expect(without()).toMatchObject({ way: 'ab', paid: 0 })
    expect(without('a>b')).toMatchObject({ way: 'a2b', paid: 0 })
    expect(without('null>a')).toMatchObject({ way: 'a2b', paid: 0 })
    expect(without('a>b', 'a2>b')).toMatchObject({ way: 'ab', paid: 1e6 })
    expect(without('b>null')).toMatchObject({ way: 'ab', paid: 1e6 })
    expect(without('b>null').decodeMs).toBe(without().decodeMs)
  })
})

/** All chains of at most `maxHops` different holders, cut at any layer. */
function cheapest(holders: readonly LayerHolder[], nLayers: number, maxHops: number): number {
  const go = (layer: number, used: readonly LayerHolder[]): number => {
    if (layer === nLayers) return 10 / 2 + 0.5
    if (used.length === maxHops) return Number.POSITIVE_INFINITY
    let best = Number.POSITIVE_INFINITY
    for (const next of holders) {
      if (used.includes(next) || next.span.start > layer || next.span.end <= layer) continue
      const link = (used.length === 0 ? 10 : 150) / 2 + 0.5
      for (let end = layer + 1; end <= next.span.end; end++) {
        best = Math.min(best, link + next.decodeMs * (end - layer) + go(end, [...used, next]))
      }
    }
    return best
  }
  return go(0, [])
}

/** The same with the links as told, and the real way home. */
function cheapestOfPairs(holders: readonly LayerHolder[], nLayers: number, maxHops: number): number {
  const go = (layer: number, used: readonly LayerHolder[]): number => {
    const last = used.at(-1)
    if (layer === nLayers) return (last?.rttMs ?? 0) / 2 + 0.5
    if (used.length === maxHops) return Number.POSITIVE_INFINITY
    let best = Number.POSITIVE_INFINITY
    for (const next of holders) {
      if (used.includes(next) || next.span.start > layer || next.span.end <= layer) continue
      const link = (last === undefined ? (next.rttMs ?? 150) : (rttBetween(last, next) ?? 150)) / 2 + 0.5
      for (let end = layer + 1; end <= next.span.end; end++) {
        best = Math.min(best, link + next.decodeMs * (end - layer) + go(end, [...used, next]))
      }
    }
    return best
  }
  return go(0, [])
}
