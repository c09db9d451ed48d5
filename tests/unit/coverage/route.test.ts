import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import { gapsWithin, mapCoverage } from '../../../src/coverage/map.ts'
import { findRoute } from '../../../src/coverage/route.ts'

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
