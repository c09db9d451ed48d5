import { expect, test } from 'vitest'
import { splitmix64, uniformAt } from '../../../src/pipeline/splitmix.ts'

test.each([
  // Outputs of Vigna's splitmix64.c.
  [0n, [0xe220a8397b1dcdafn, 0x6e789e6aa1b965f4n, 0x06c45d188009454fn, 0xf88bb8a8724c81ecn]],
  [1234567n, [6457827717110365317n, 3203168211198807973n, 9817491932198370423n, 4593380528125082431n]],
])('seed %s gives the known sequence', (seed, outputs) => {
  expect(outputs.map((_, index) => splitmix64(seed, index))).toEqual(outputs)
})

test('the uniform is the top 53 bits, in [0, 1), and depends on seed and index only', () => {
  expect(uniformAt(0, 0)).toBe(Number(0xe220a8397b1dcdafn >> 11n) / 2 ** 53)
  expect(uniformAt(-1, 5)).toBe(Number(splitmix64(2n ** 64n - 1n, 5) >> 11n) / 2 ** 53)
  const draws = Array.from({ length: 10_000 }, (_, index) => uniformAt(42, index))
  expect(Math.min(...draws)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...draws)).toBeLessThan(1)
  const mean = draws.reduce((sum, draw) => sum + draw, 0) / draws.length
  expect(mean).toBeCloseTo(0.5, 2)
})
