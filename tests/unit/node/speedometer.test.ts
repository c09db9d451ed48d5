import { expect, it } from 'vitest'
import { createSpeedometer } from '../../../src/node/speedometer.ts'

it('measures the last seconds, not the whole download', () => {
  const speed = createSpeedometer()
  speed.note(0, 0)
  speed.note(100, 100)
  expect(speed.perSecond()).toBeNull()
  for (let ms = 1_000; ms <= 10_000; ms += 500) speed.note(ms, ms)
  expect(speed.perSecond()).toBeCloseTo(1_000)
  for (let ms = 10_500; ms <= 20_000; ms += 500) speed.note(10_000 + (ms - 10_000) * 5, ms)
  expect(speed.perSecond()).toBeCloseTo(5_000)
})
