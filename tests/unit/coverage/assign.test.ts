import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Span } from '../../../src/base/span.ts'
import { type Assigned, chooseWindow, layerThroughput, minHops } from '../../../src/coverage/assign.ts'
import { diskFor, type FitRequest, fitLayers, kvBudget, memoryFor, usableMemory } from '../../../src/coverage/fit.ts'
import { decideMove } from '../../../src/coverage/rebalance.ts'

const GB = 1e9

function peer(id: string, start: number, end: number, msPerLayer = 10): Assigned {
  return { id, span: { start, end }, msPerLayer }
}

const layers = (max: number) => fc.integer({ min: 1, max })
const swarm = (nLayers: number, maxPeers: number) =>
  fc
    .array(
      fc
        .record({ a: fc.nat(nLayers - 1), b: fc.nat(nLayers - 1), ms: fc.integer({ min: 1, max: 50 }) })
        .map(({ a, b, ms }) => ({ span: { start: Math.min(a, b), end: Math.max(a, b) + 1 }, msPerLayer: ms })),
      { maxLength: maxPeers },
    )
    .map((peers): Assigned[] => peers.map((each, i) => ({ ...each, id: `p${i}` })))

describe('window of a newcomer', () => {
  const request = { nLayers: 12, maxHops: 8 }

  test('the gap between two peers, and only it', () => {
    const found = chooseWindow([peer('a', 0, 4), peer('b', 8, 12)], 12, request)
    expect(found).toMatchObject({ span: { start: 4, end: 8 }, reason: 'gap', gapLayers: 4, replicasBefore: 0 })
  })

  test('the whole model when nobody is there and all fits', () => {
    expect(chooseWindow([], 12, request)).toMatchObject({ span: { start: 0, end: 12 }, reason: 'first' })
    expect(chooseWindow([], 100, request).span).toEqual({ start: 0, end: 12 })
  })

  test('part of a gap that does not fit as a whole, at its border', () => {
    const { span, gapLayers } = chooseWindow([peer('a', 0, 2)], 3, request)
    expect(span.end - span.start).toBe(3)
    expect(gapLayers).toBe(3)
    expect([2, 9]).toContain(span.start)
  })

  test('the weakest layers when nothing is missing', () => {
    const peers = [peer('a', 0, 12), peer('b', 0, 6), peer('c', 9, 12)]
    expect(chooseWindow(peers, 3, request)).toMatchObject({ span: { start: 6, end: 9 }, reason: 'weakest' })
  })

  test('a slow holder counts less than a fast one', () => {
    const peers = [peer('a', 0, 6, 10), peer('b', 6, 12, 40)]
    expect(chooseWindow(peers, 6, request).span).toEqual({ start: 6, end: 12 })
  })

  test('a longer span where every layer is held but no legal route exists', () => {
    const peers = Array.from({ length: 12 }, (_, i) => peer(`p${i}`, i, i + 1, i < 6 ? 10 : 1))
    expect(
      minHops(
        peers.map(({ span }) => span),
        12,
      ),
    ).toBe(12)
    const found = chooseWindow(peers, 5, request)
    expect(found.reason).toBe('fragmented')
    expect(minHops([...peers.map(({ span }) => span), found.span], 12)).toBe(8)
  })

  test('is not cut to a gap when the route would become too long', () => {
    const peers = Array.from({ length: 12 }, (_, i) => peer(`p${i}`, i, i + 1)).filter((_, i) => i !== 6)
    const { span } = chooseWindow(peers, 6, request)
    expect(span.end - span.start).toBe(6)
    expect(minHops([...peers.map((each) => each.span), span], 12)).toBeLessThanOrEqual(8)
  })

  test('lies inside the model, is no longer than what fits, and leaves no gap that a window of its size could close', () => {
    fc.assert(
      fc.property(swarm(20, 8), layers(25), (peers, size) => {
        const { span, gapLayers } = chooseWindow(peers, size, { nLayers: 20, maxHops: 8 })
        expect(span.start).toBeGreaterThanOrEqual(0)
        expect(span.end).toBeLessThanOrEqual(20)
        const length = span.end - span.start
        expect(length).toBeGreaterThanOrEqual(1)
        expect(length).toBeLessThanOrEqual(size)
        const load = layerThroughput(peers, 20)
        const gapsIn = ({ start, end }: Span) => load.subarray(start, end).filter((value) => value === 0).length
        expect(gapsIn(span)).toBe(gapLayers)
        const window = Math.min(size, 20)
        for (let start = 0; start + window <= 20; start++) {
          expect(gapsIn({ start, end: start + window })).toBeLessThanOrEqual(gapLayers)
        }
      }),
    )
  })

  test('never makes the weakest layer of its window stronger than it could be elsewhere', () => {
    fc.assert(
      fc.property(swarm(16, 8), layers(16), (peers, size) => {
        const load = layerThroughput(peers, 16)
        if (load.includes(0)) return
        const { span, reason } = chooseWindow(peers, size, { nLayers: 16, maxHops: 16 })
        if (reason === 'fragmented') return
        const sorted = (start: number, end: number) => [...load.slice(start, end).sort()]
        const own = sorted(span.start, span.end)
        for (let start = 0; start + size <= 16; start++) {
          const other = sorted(start, start + size)
          const at = own.findIndex((value, i) => Math.abs(value - (other[i] ?? 0)) > 1e-6)
          if (at >= 0) expect(own[at]).toBeLessThan(other[at] ?? 0)
        }
      }),
    )
  })
})

test('hops are what trying every choice finds', () => {
  const slow = (spans: readonly Span[], at: number, nLayers: number): number => {
    if (at >= nLayers) return 0
    const ways = spans.filter(({ start, end }) => start <= at && at < end)
    return 1 + Math.min(Number.POSITIVE_INFINITY, ...ways.map(({ end }) => slow(spans, end, nLayers)))
  }
  fc.assert(
    fc.property(swarm(10, 6), (peers) => {
      const spans = peers.map(({ span }) => span)
      expect(minHops(spans, 10)).toBe(slow(spans, 0, 10))
    }),
  )
})

describe('moving', () => {
  const base = { nLayers: 12, maxHops: 8, stayedMs: 7_200_000 }

  test('the second of two newcomers on one window moves to the gap', () => {
    const peers = [peer('a', 0, 6), peer('b', 0, 6)]
    expect(decideMove(peers, { ...base, self: 'b', fits: 6 })).toMatchObject({
      span: { start: 6, end: 12 },
      reason: 'gap',
    })
    const moved = [peer('a', 0, 6), peer('b', 6, 12)]
    expect(decideMove(moved, { ...base, self: 'a', fits: 6 })).toBeUndefined()
    expect(decideMove(moved, { ...base, self: 'b', fits: 6 })).toBeUndefined()
  })

  test('not before it has settled, and without a gap not within the hour', () => {
    const gap = [peer('a', 0, 6), peer('b', 0, 6)]
    expect(decideMove(gap, { ...base, self: 'b', fits: 6, stayedMs: 1_000 })).toBeUndefined()
    const weak = [peer('a', 0, 6), peer('b', 0, 6), peer('c', 0, 6), peer('d', 6, 12)]
    expect(decideMove(weak, { ...base, self: 'c', fits: 6, stayedMs: 60_000 })).toBeUndefined()
    expect(decideMove(weak, { ...base, self: 'c', fits: 6 })).toMatchObject({ reason: 'weakest' })
  })

  test('shifts so far that a gap is closed and no layer lost', () => {
    const peers = [peer('a', 0, 4), peer('b', 2, 8)]
    const move = decideMove(peers, { ...base, nLayers: 10, self: 'b', fits: 6 })
    expect(move).toMatchObject({ span: { start: 4, end: 10 }, reason: 'gap' })
  })

  test('stays when the swarm is better than three quarters of what it could be', () => {
    const peers = [peer('a', 0, 6, 10), peer('b', 0, 6, 12), peer('c', 6, 12, 11), peer('d', 6, 12, 10)]
    for (const self of ['a', 'b', 'c', 'd']) expect(decideMove(peers, { ...base, self, fits: 6 })).toBeUndefined()
  })

  test('never opens a gap and never makes a route illegal', () => {
    fc.assert(
      fc.property(swarm(12, 7), fc.nat(6), layers(12), (peers, index, fits) => {
        const self = peers[index]
        if (self === undefined) return
        const move = decideMove(peers, { ...base, self: self.id, fits })
        if (move === undefined) return
        const after = peers.map((each) => (each.id === self.id ? { ...each, span: move.span } : each))
        const before = layerThroughput(peers, 12)
        const then = layerThroughput(after, 12)
        for (let layer = 0; layer < 12; layer++) {
          if ((before[layer] ?? 0) > 0) expect(then[layer]).toBeGreaterThan(0)
        }
        const hops = (each: readonly Assigned[]) =>
          minHops(
            each.map(({ span }) => span),
            12,
          )
        if (hops(peers) <= 8) expect(hops(after)).toBeLessThanOrEqual(8)
        expect(move.span.end - move.span.start).toBeLessThanOrEqual(Math.max(fits, self.span.end - self.span.start))
      }),
    )
  })
})

describe('what fits', () => {
  const request: FitRequest = {
    nLayers: 80,
    layer: { packedBytes: 0.46 * GB, rawBytes: 1.7 * GB, kvBytesPerToken: 8_192 },
    ends: null,
    kvTokens: 8_192,
    processBytes: 0.25 * GB,
    memoryBytes: 16 * GB,
    diskBytes: 500 * GB,
  }

  test('leaves a fifth of the memory free', () => {
    const { layers: count, limitedBy } = fitLayers(request)
    expect(limitedBy).toBe('memory')
    expect(memoryFor(count, request).totalBytes).toBeLessThanOrEqual(0.8 * 16 * GB)
    expect(memoryFor(count + 1, request).totalBytes).toBeGreaterThan(0.8 * 16 * GB)
  })

  test('says what limits it', () => {
    expect(fitLayers({ ...request, memoryBytes: 1_000 * GB })).toEqual({ layers: 80, limitedBy: 'model' })
    expect(fitLayers({ ...request, diskBytes: 7 * GB })).toEqual({ layers: 4, limitedBy: 'disk' })
    expect(fitLayers({ ...request, memoryBytes: 0.5 * GB })).toEqual({ layers: 0, limitedBy: 'memory' })
  })

  test('always fits, and one more never does', () => {
    const bytes = fc.integer({ min: 1, max: 1_000 })
    fc.assert(
      fc.property(bytes, bytes, bytes, bytes, bytes, bytes, (packedBytes, rawBytes, kv, ends, memory, disk) => {
        const drawn: FitRequest = {
          nLayers: 30,
          layer: { packedBytes, rawBytes, kvBytesPerToken: kv / 100 },
          ends: { memoryBytes: ends, diskBytes: ends },
          kvTokens: 10,
          processBytes: 100,
          memoryBytes: memory * 20,
          diskBytes: disk * 20,
        }
        const fits = (count: number) =>
          memoryFor(count, drawn).totalBytes <= usableMemory(drawn.memoryBytes) &&
          diskFor(count, drawn) <= drawn.diskBytes
        const { layers: count } = fitLayers(drawn)
        if (count > 0) expect(fits(count)).toBe(true)
        if (count < 30) expect(fits(count + 1)).toBe(false)
      }),
    )
  })

  test('KV takes what is wanted, or what is left', () => {
    const now = { freeBytes: 1_000, weightsBytes: 300, wantedKvBytes: 200, leastKvBytes: 50 }
    expect(kvBudget(now)).toBe(200)
    expect(kvBudget({ ...now, weightsBytes: 700 })).toBe(100)
    expect(kvBudget({ ...now, weightsBytes: 780 })).toBeUndefined()
  })
})
