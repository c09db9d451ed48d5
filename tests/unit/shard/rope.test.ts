import { describe, expect, test } from 'vitest'
import type { RopeSpec } from '../../../src/model/spec.ts'
import { ropeFrequencies, ropeTable, shortFactorLimit } from '../../../src/shard/rope.ts'

const rope = (scaling: RopeSpec['scaling'], rotaryDim = 128, theta = 1e6): RopeSpec => ({ theta, rotaryDim, scaling })
const plain = ropeFrequencies(rope({ type: 'default' }), 'short')

describe('frequencies', () => {
  test('default: theta to the power of −2i/d', () => {
    expect(plain).toHaveLength(64)
    expect(plain[0]).toBe(1)
    expect(plain[32]).toBeCloseTo(1e-3, 12)
    expect(ropeFrequencies(rope({ type: 'default' }, 64, 10_000), 'short')[16]).toBeCloseTo(0.01, 12)
  })

  test('linear divides all', () => {
    const scaled = ropeFrequencies(rope({ type: 'linear', factor: 4 }), 'short')
    expect(scaled.every((frequency, i) => frequency === (plain[i] ?? 0) / 4)).toBe(true)
  })

  test('llama3 keeps short waves, divides long ones, and blends between', () => {
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPosition: 8192,
    } as const
    const scaled = ropeFrequencies(rope(scaling), 'short')
    for (const [i, frequency] of scaled.entries()) {
      const wave = (2 * Math.PI) / (plain[i] ?? 0)
      const ratio = (plain[i] ?? 0) / frequency
      if (wave < 8192 / 4) expect(ratio).toBe(1)
      else if (wave > 8192) expect(ratio).toBeCloseTo(8, 12)
      else expect(ratio > 1 && ratio < 8).toBe(true)
    }
  })

  test('longrope divides by the short or the long factors', () => {
    const shortFactor = Array.from({ length: 64 }, (_, i) => 1 + i / 100)
    const longFactor = Array.from({ length: 64 }, (_, i) => 2 + i)
    const scaling = {
      type: 'longrope',
      shortFactor,
      longFactor,
      originalMaxPosition: 4096,
      attentionFactor: 1.19,
    } as const
    expect(ropeFrequencies(rope(scaling), 'short')[50]).toBe((plain[50] ?? 0) / 1.5)
    expect(ropeFrequencies(rope(scaling), 'long')[50]).toBe((plain[50] ?? 0) / 52)
    expect(shortFactorLimit(rope(scaling))).toBe(4096)
    expect(shortFactorLimit(rope({ type: 'default' }))).toBeNull()
  })

  // The corrections of a published configuration: factor 4, 32,768 positions, heads of 128, theta 1e6. The pair that
  // turns 32 times is 128 · ln(32768 / (32 · 2π)) / (2 · ln 1e6) = 23.6, the one that turns once 39.7.
  const yarn = {
    type: 'yarn',
    factor: 4,
    originalMaxPosition: 32_768,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    attentionFactor: 0.1 * Math.log(4) + 1,
  } as const

  test('yarn keeps fast pairs, divides slow ones, with a ramp between', () => {
    const scaled = ropeFrequencies(rope(yarn), 'short')
    const share = (i: number) => (scaled[i] ?? 0) / (plain[i] ?? 1)
    expect([0, 10, 23].map(share)).toEqual([1, 1, 1])
    expect([40, 50, 63].map((i) => share(i).toFixed(12))).toEqual([
      '0.250000000000',
      '0.250000000000',
      '0.250000000000',
    ])
    expect(share(30)).toBeCloseTo(1 - (0.75 * (30 - 23)) / (40 - 23), 12)
  })

  test('yarn without truncation does not round the ends of the ramp', () => {
    const share = (ropeFrequencies(rope({ ...yarn, truncate: false }), 'short')[30] ?? 0) / (plain[30] ?? 1)
    const pair = (turns: number) => (128 * Math.log(32_768 / (turns * 2 * Math.PI))) / (2 * Math.log(1e6))
    expect(share).toBeCloseTo(1 - (0.75 * (30 - pair(32))) / (pair(1) - pair(32)), 12)
  })

  test('tables are rounded once to f32 and carry the attention factor', () => {
    const { cos, sin, rows } = ropeTable(rope(yarn), 'short', 3)
    expect(rows).toBe(3)
    expect(cos).toHaveLength(3 * 64)
    expect(cos[0]).toBe(Math.fround(yarn.attentionFactor))
    expect(sin[0]).toBe(0)
    expect(cos[2 * 64]).toBe(Math.fround(Math.cos(2) * yarn.attentionFactor))
    expect(ropeTable(rope({ type: 'default' }), 'short', 2).sin[64]).toBe(Math.fround(Math.sin(1)))
  })
})
