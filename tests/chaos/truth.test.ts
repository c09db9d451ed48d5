import { expect, test } from 'vitest'
import { type Ending, type Life, untruth } from './truth.ts'

const limits = { nLayers: 4, routesTried: 5, recoverMs: 60_000 }
const life = (span: [number, number], fromMs: number, toMs: number | null): Life => {
  return { name: 'a', span: { start: span[0], end: span[1] }, fromMs, toMs }
}
const ending = (fields: Partial<Ending>): Ending => {
  return { code: 'COVERAGE_GAP', failovers: 0, lastTextMs: 100_000, endedMs: 100_000, ...fields }
}

test('a gap is true when a layer was held by nobody shortly before', () => {
  const low = life([0, 2], 0, null)
  const judge = (...lives: Life[]) => untruth(ending({}), lives, limits)
  expect(judge(low, life([2, 4], 0, null))).toMatch(/every layer was held/)
  expect(judge(low, life([2, 4], 0, 90_000))).toBeNull()
  expect(judge(low, life([2, 4], 0, 90_000), life([2, 4], 95_000, null))).toBeNull()
  // Long ago, and closed by somebody who was known by then.
  expect(judge(low, life([2, 4], 0, 50_000), life([2, 4], 60_000, null))).toMatch(/every layer was held/)
  expect(judge(low, life([2, 4], 0, 90_000), life([1, 4], 80_000, null))).toMatch(/every layer was held/)
})

test('a broken circuit is true after five ways or a minute, and nothing else is', () => {
  const judge = (fields: Partial<Ending>) => untruth(ending(fields), [], limits)
  expect(judge({ code: 'CIRCUIT_BROKEN', failovers: 5 })).toBeNull()
  expect(judge({ code: 'HOP_TIMEOUT', lastTextMs: 40_000 })).toBeNull()
  expect(judge({ code: 'PEER_REFUSED', failovers: 4, lastTextMs: 40_001 })).toMatch(/4 ways/)
  expect(judge({ code: 'INTERNAL', failovers: 9 })).toMatch(/nothing that churn can do/)
})
