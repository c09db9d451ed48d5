import fc from 'fast-check'
import { expect, test } from 'vitest'
import { proposeDraft } from '../../../src/pipeline/draft.ts'

test('proposes what followed the same ids before', () => {
  expect(proposeDraft([1, 2, 3, 4, 5, 9, 1, 2, 3], 2)).toEqual([4, 5])
  expect(proposeDraft([1, 2, 3, 4, 5, 9, 1, 2, 3], 8)).toEqual([4, 5, 9, 1, 2, 3, 4, 5])
})

test('the longest match wins, then the latest', () => {
  expect(proposeDraft([7, 1, 2, 50, 8, 1, 2, 60, 7, 1, 2], 1)).toEqual([50])
  expect(proposeDraft([1, 2, 50, 1, 2, 60, 1, 2], 1)).toEqual([60])
})

test('a repetition is proposed at full length', () => {
  expect(proposeDraft([5, 5, 5], 4)).toEqual([5, 5, 5, 5])
  expect(proposeDraft([1, 2, 1, 2], 5)).toEqual([1, 2, 1, 2, 1])
})

test.each([[[]], [[1]], [[1, 1]], [[1, 2, 3]], [[1, 2, 9, 3, 2]]])('without a place: nothing (%j)', (transcript) => {
  expect(proposeDraft(transcript, 8)).toEqual([])
})

test('no rows, no draft', () => {
  expect(proposeDraft([5, 5, 5], 0)).toEqual([])
})

test('at most maxRows ids, all from the transcript, following a place where its last two ids stand', () => {
  const ids = fc.array(fc.nat(3), { maxLength: 60 })
  fc.assert(
    fc.property(ids, fc.nat(10), (transcript, maxRows) => {
      const draft = proposeDraft(transcript, maxRows)
      const [before, last] = transcript.slice(-2)
      const places = transcript.flatMap((_, at) =>
        at >= 2 && at < transcript.length && transcript[at - 2] === before && transcript[at - 1] === last ? [at] : [],
      )
      expect(draft.length).toBe(places.length === 0 ? 0 : maxRows)
      const joined = [...transcript, ...draft]
      const follows = places.some((at) => draft.every((id, row) => id === joined[at + row]))
      expect(follows).toBe(places.length > 0)
    }),
  )
})

test('a long transcript costs far less than a token', () => {
  const transcript = Array.from({ length: 32_768 }, (_, i) => (i * 7919) % 32_003)
  const start = performance.now()
  for (let i = 0; i < 20; i++) proposeDraft(transcript, 8)
  expect((performance.now() - start) / 20).toBeLessThan(5)
})
