import { expect, test } from 'vitest'
import { bestRung, createDrafter } from '../../../src/pipeline/drafter.ts'

/** Steps with a guess: `right` says how many rows are right, `ms` what a step with so many rows costs. */
function play(steps: number, ms: (rows: number) => number, right: (rows: number) => number) {
  const drafter = createDrafter()
  const rows: number[] = []
  for (let step = 0; step < steps; step++) {
    const draft = drafter.propose([4, 4, 4, 4], 100)
    rows.push(draft.length)
    drafter.learn({ drafted: draft.length, accepted: right(draft.length), ms: ms(draft.length) })
  }
  return { drafter, rows }
}

const countOf = (rows: readonly number[], wanted: number) => rows.filter((row) => row === wanted).length

test('right guesses over a slow link: as many rows as there are', () => {
  const { rows, drafter } = play(
    100,
    (row) => 20 + row * 0.2,
    (row) => row,
  )
  expect(countOf(rows.slice(20), 7)).toBeGreaterThan(70)
  expect(drafter.accepted).toBe(drafter.drafted)
})

test('wrong guesses that cost time: hardly any', () => {
  const { rows } = play(
    200,
    (row) => 10 + row * 3,
    () => 0,
  )
  const late = rows.slice(40)
  expect(countOf(late, 0)).toBeGreaterThan(0.9 * late.length)
  expect(countOf(late, 1)).toBeGreaterThan(0)
})

test('guesses that become right are taken up again', () => {
  const drafter = createDrafter()
  const rows: number[] = []
  for (let step = 0; step < 600; step++) {
    const draft = drafter.propose([4, 4, 4, 4], 100)
    rows.push(draft.length)
    drafter.learn({ drafted: draft.length, accepted: step < 100 ? 0 : draft.length, ms: 10 + draft.length })
  }
  expect(countOf(rows.slice(60, 100), 7)).toBe(0)
  expect(countOf(rows.slice(500), 7)).toBeGreaterThan(80)
})

test('no more rows than there is room for, and none without a place to look up', () => {
  const drafter = createDrafter()
  expect(drafter.propose([4, 4, 4, 4], 2).length).toBeLessThanOrEqual(2)
  expect(drafter.propose([4, 4, 4, 4], 0)).toEqual([])
  expect(drafter.propose([4, 4, 4, 4], -3)).toEqual([])
  expect(drafter.propose([1, 2, 3, 4], 7)).toEqual([])
})

test.each([
  ['nothing measured, even chances', [], 0.5, 3],
  ['nothing is ever right', [[0, 10]], 0, 0],
  ['everything is right', [[0, 10]], 1, 7],
  [
    'rows as dear as steps',
    [
      [0, 10],
      [1, 20],
      [3, 40],
      [7, 80],
    ],
    0.9,
    0,
  ],
] as const)('the best number of rows: %s', (_, times, acceptance, expected) => {
  expect(bestRung(new Map(times.map(([rung, ms]) => [rung, ms])), acceptance)).toBe(expected)
})
