import { expect, test } from 'vitest'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { gapError } from '../../../src/pipeline/gap-error.ts'

const failure = new LlmNodeError('CIRCUIT_BROKEN', 'broke away', { meta: { start: 4, end: 8 } })
const gapOf = (layers: readonly string[]) => new LlmNodeError('COVERAGE_GAP', 'held by nobody', { meta: { layers } })
const said = (layers: readonly string[], failures: readonly LlmNodeError[]) =>
  gapError({ plan: undefined, gap: gapOf(layers), failures, modelName: 'M' }, { penaltyMs: () => 0 })

test('layers whose holder failed do not answer, whether or not that is known to be gone already', () => {
  const { code, message, meta } = said(['4-7'], [failure])
  expect([code, message, meta.layers]).toEqual([
    'COVERAGE_GAP',
    'Layers 4-7 of M are held by nobody who answers.',
    ['4-7'],
  ])
})

test('layers that nobody held before are named as they were', () => {
  expect(said(['4-7'], []).message).toBe('held by nobody')
  expect(said(['4-7', '9'], [failure]).message).toBe('held by nobody')
})
