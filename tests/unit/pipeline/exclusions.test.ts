import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { AVOIDED_MS, type Blame, blameOf, createExclusions } from '../../../src/pipeline/exclusions.ts'

function createTestClock() {
  let ms = 1_000
  const advance = (by: number) => {
    ms += by
  }
  return { clock: { nowMs: () => ms, monotonicMs: () => ms }, advance }
}

const link = (from: string | null, to: string | null): Blame => ({ what: 'link', from, to })

describe('exclusions', () => {
  test('a link is out for 15 s, then 30, then 60', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    for (const seconds of [15, 30, 60]) {
      exclusions.add(link('a', 'b'))
      expect(exclusions.penaltyMs('a', 'b')).toBeGreaterThanOrEqual(AVOIDED_MS)
      advance(seconds * 1_000 - 1)
      expect(exclusions.penaltyMs('a', 'b')).toBeGreaterThanOrEqual(AVOIDED_MS)
      advance(1)
      expect(exclusions.penaltyMs('a', 'b')).toBe(0)
    }
  })

  test('after having been good for as long, it begins anew', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    exclusions.add(link('a', 'b'))
    exclusions.add(link('a', 'b'))
    advance(61_000)
    exclusions.add(link('a', 'b'))
    advance(15_000)
    expect(exclusions.penaltyMs('a', 'b')).toBe(0)
  })

  test('only that link, in that direction', () => {
    const exclusions = createExclusions(createTestClock().clock)
    exclusions.add(link('a', 'b'))
    expect(exclusions.penaltyMs('b', 'a')).toBeLessThan(100)
    expect(exclusions.penaltyMs('a', 'c')).toBe(0)
    expect(exclusions.penaltyMs(null, 'b')).toBeLessThan(100)
  })

  test('either end of it costs a little more than others until it works, so that a third one is tried first', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    exclusions.add(link('a', 'b'))
    for (const [from, to] of [
      [null, 'a'],
      ['c', 'b'],
    ] as const) {
      expect(exclusions.penaltyMs(from, to)).toBeGreaterThan(0)
      expect(exclusions.penaltyMs(from, to)).toBeLessThan(100)
    }
    advance(1)
    exclusions.worked(['a', 'c'])
    expect(exclusions.penaltyMs(null, 'a')).toBe(0)
    expect(exclusions.penaltyMs('c', 'b')).toBeGreaterThan(0)
  })

  test('of two ways over what has failed, the one that failed longest ago costs less, also when all of it is one peer', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    exclusions.add(link('a', 'b'))
    exclusions.add(link('a2', 'b'))
    advance(1_000)
    exclusions.worked(['a', 'twin', 'c'])
    advance(1)
    exclusions.add(link('a', 'twin'))
    const way = (...stops: string[]) =>
      [...stops, null].reduce((sum, to, i) => sum + exclusions.penaltyMs(stops[i - 1] ?? null, to), 0)
    expect(way('a', 'b', 'c')).toBeLessThan(way('a', 'twin', 'c'))
  })

  test('also when it failed more often, so that it is left out for longer', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    for (let i = 0; i < 4; i++) exclusions.add(link('a', 'b'))
    advance(10_000)
    exclusions.add(link('a', 'twin'))
    expect(exclusions.penaltyMs('a', 'b')).toBeLessThan(exclusions.penaltyMs('a', 'twin'))
  })

  test('as a last resort either end of a failed link counts as gone', () => {
    const exclusions = createExclusions(createTestClock().clock)
    exclusions.add(link(null, 'old'))
    exclusions.add(link(null, 'dead'))
    // One link that failed, and not two, where the dead peer is only reached another way.
    const around = (lastResort: boolean) =>
      exclusions.penaltyMs(null, 'old', lastResort) + exclusions.penaltyMs('old', 'dead', lastResort)
    const alone = (lastResort: boolean) => exclusions.penaltyMs(null, 'old', lastResort)
    expect(around(false)).toBeLessThan(AVOIDED_MS + alone(false))
    expect(around(true)).toBeGreaterThan(AVOIDED_MS + alone(true))
  })

  test('a peer only when two different partners failed with it', () => {
    const exclusions = createExclusions(createTestClock().clock)
    exclusions.add(link('a', 'b'))
    exclusions.add(link('a', 'b'))
    expect(exclusions.penaltyMs('x', 'b')).toBeLessThan(100)
    exclusions.add(link('b', null))
    expect(exclusions.penaltyMs('x', 'b')).toBeGreaterThanOrEqual(AVOIDED_MS)
    expect(exclusions.penaltyMs('x', 'a')).toBeLessThan(100)
    expect(exclusions.penaltyMs(null, 'x')).toBe(0)
  })

  test('who refuses is out at once; who may be slow only costs more', () => {
    const exclusions = createExclusions(createTestClock().clock)
    exclusions.add({ what: 'peer', address: 'a' })
    exclusions.add({ what: 'route', addresses: ['c', 'd'] })
    expect(exclusions.penaltyMs('x', 'a')).toBeGreaterThanOrEqual(AVOIDED_MS)
    const suspect = exclusions.penaltyMs('x', 'd')
    expect(suspect).toBeGreaterThan(0)
    expect(suspect).toBeLessThan(AVOIDED_MS)
  })

  test('a peer that has worked since is not out for the failures of two partners', () => {
    const { clock, advance } = createTestClock()
    const exclusions = createExclusions(clock)
    exclusions.add(link('a', 'b'))
    advance(1)
    exclusions.worked(['a', 'b2'])
    advance(1)
    exclusions.add(link('a', 'b2'))
    expect(exclusions.penaltyMs(null, 'a')).toBeLessThan(100)
    expect(exclusions.penaltyMs('a', 'b')).toBeGreaterThanOrEqual(AVOIDED_MS)
    // What failed longest ago is tried first when nothing else is left.
    expect(exclusions.penaltyMs('a', 'b2')).toBeGreaterThan(exclusions.penaltyMs('a', 'b'))
  })

  test('what has worked is in again', () => {
    const exclusions = createExclusions(createTestClock().clock)
    exclusions.add(link('a', 'b'))
    exclusions.add({ what: 'peer', address: 'c' })
    exclusions.add({ what: 'route', addresses: ['a', 'b', 'c'] })
    exclusions.worked(['a', 'b', 'c'])
    for (const [from, to] of [
      [null, 'a'],
      ['a', 'b'],
      ['b', 'c'],
      ['c', null],
    ] as const) {
      expect(exclusions.penaltyMs(from, to)).toBe(0)
    }
  })

  test('what is remembered has an end', () => {
    const exclusions = createExclusions(createTestClock().clock)
    for (let i = 0; i < 1_100; i++) exclusions.add({ what: 'peer', address: `p${i}` })
    expect(exclusions.penaltyMs('x', 'p0')).toBe(0)
    expect(exclusions.penaltyMs('x', 'p1099')).toBeGreaterThanOrEqual(AVOIDED_MS)
  })
})

describe('blame', () => {
  const addresses = ['a', 'b', 'c']
  const error = (code: 'HOP_TIMEOUT' | 'PEER_REFUSED', meta: Record<string, string | number | number[]>) =>
    new LlmNodeError(code, 'x', { meta })

  test.each([
    ['a link between hops', error('HOP_TIMEOUT', { hop: 1, pair: [0, 1] }), link('a', 'b')],
    ['the first link', error('HOP_TIMEOUT', { hop: 0, pair: [-1, 0] }), link(null, 'a')],
    ['the way back', error('HOP_TIMEOUT', { hop: 3, pair: [2, 3] }), link('c', null)],
    ['a refusal', error('PEER_REFUSED', { hop: 2, pair: [1, 2], status: 'KV_FULL' }), { what: 'peer', address: 'c' }],
    ['bad rows', error('PEER_REFUSED', { hop: 2, pair: [1, 2], status: 'BAD_INPUT' }), link('b', 'c')],
    ['no record', error('HOP_TIMEOUT', { address: 'b' }), { what: 'peer', address: 'b' }],
    ['nobody in particular', error('HOP_TIMEOUT', { nHops: 3 }), { what: 'route', addresses }],
  ])('%s', (_, thrown, expected) => {
    expect(blameOf(thrown, addresses)).toEqual(expected)
  })
})

test('the scores hear who failed, by its share of the blame, and who worked', () => {
  const heard: string[] = []
  const exclusions = createExclusions(createTestClock().clock, {
    worked: (name) => heard.push(`${name} worked`),
    failed: (name, share) => heard.push(`${name} failed ${share}`),
  })
  exclusions.add({ what: 'peer', address: 'a' })
  exclusions.add(link('a', 'b'))
  exclusions.add(link(null, 'c'))
  exclusions.add({ what: 'route', addresses: ['a', 'b', 'c', 'd'] })
  exclusions.worked(['a', 'b'])
  expect(heard).toEqual([
    ...['a failed 1', 'a failed 0.5', 'b failed 0.5', 'c failed 0.5'],
    ...['a failed 0.25', 'b failed 0.25', 'c failed 0.25', 'd failed 0.25'],
    ...['a worked', 'b worked'],
  ])
})

test('a peer that breaks its links cannot have others excluded with them; it is, after two of them', () => {
  const honest = ['a', 'b', 'c', 'd', 'e']
  const attack = fc.record({
    partner: fc.constantFrom(...honest),
    first: fc.boolean(),
    afterMs: fc.nat({ max: 20_000 }),
  })
  fc.assert(
    fc.property(fc.array(attack, { minLength: 1, maxLength: 30 }), (breaks) => {
      const { clock, advance } = createTestClock()
      const exclusions = createExclusions(clock)
      for (const { partner, first, afterMs } of breaks) {
        advance(afterMs)
        exclusions.add(first ? link('liar', partner) : link(partner, 'liar'))
      }
      for (const from of [null, ...honest]) {
        for (const to of [...honest, null]) {
          if (from !== to) expect(exclusions.penaltyMs(from, to), `${from} ${to}`).toBeLessThan(100)
        }
      }
      // Those of the last 15 s are in force for certain.
      const late = breaks.filter((_, i) => breaks.slice(i + 1).reduce((sum, { afterMs }) => sum + afterMs, 0) < 15_000)
      if (new Set(late.map(({ partner }) => partner)).size < 2) return
      for (const other of honest) expect(exclusions.penaltyMs(other, 'liar')).toBeGreaterThanOrEqual(AVOIDED_MS)
    }),
  )
})
