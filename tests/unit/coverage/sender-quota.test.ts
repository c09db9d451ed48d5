import { expect, it } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import { createSenderQuotas } from '../../../src/coverage/sender-quota.ts'

const { badItems, badHalfLifeMs, ignoreMs, itemsBurst, itemsPerSecond } = coverageLimits

it('looks at a burst of items from one sender, then at so many a second; others have their own', () => {
  const quotas = createSenderQuotas()
  expect(quotas.take('a', itemsBurst + 1, 0)).toBe(itemsBurst)
  expect(quotas.take('a', 1, 0)).toBe(0)
  expect(quotas.take('a', 1_000, 1_000)).toBe(itemsPerSecond)
  expect(quotas.take('b', 5, 1_000)).toBe(5)
})

it('does not listen to a sender of bad items for a while, and begins anew after it', () => {
  const quotas = createSenderQuotas()
  for (let i = 1; i < badItems; i++) quotas.reportBad('a', 0)
  expect(quotas.take('a', 1, 0)).toBe(1)
  quotas.reportBad('a', 0)
  expect(quotas.take('a', 1, ignoreMs - 1)).toBe(0)
  expect(quotas.take('b', 1, 0)).toBe(1)
  expect(quotas.take('a', 1, ignoreMs)).toBe(1)
})

it('forgets half of what was bad in every half-life: a fault now and then never adds up', () => {
  const quotas = createSenderQuotas()
  for (let i = 0; i < 10 * badItems; i++) quotas.reportBad('a', i * (badHalfLifeMs / 8))
  expect(quotas.take('a', 1, 10 * badItems * (badHalfLifeMs / 8))).toBe(1)
  for (let i = 0; i < 10 * badItems; i++) quotas.reportBad('b', i * (badHalfLifeMs / 32))
  expect(quotas.take('b', 1, 10 * badItems * (badHalfLifeMs / 32))).toBe(0)
})
