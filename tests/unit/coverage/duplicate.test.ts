import { expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/logger.ts'
import { createDuplicateWatch } from '../../../src/coverage/duplicate.ts'
import { createTestNode, network } from './advert-helpers.ts'

function watch(last: number) {
  const sequence = { last }
  let [told, logged] = [0, 0]
  const logger = { ...silentLogger, error: () => void logged++ } as typeof silentLogger
  const duplicates = createDuplicateWatch({ network }, { sequence, logger, onFound: () => void told++ })
  return { duplicates, sequence, counts: () => ({ told, logged }) }
}

it('a number that this node has not given out, rightly signed, betrays a copy; nothing else does', () => {
  const node = createTestNode()
  const { duplicates, counts } = watch(1_000)
  duplicates.see({ kind: 'advert', bytes: node.advert({ sequence: 1_000 }).bytes })
  duplicates.see({ kind: 'advert', bytes: node.advert({ sequence: 2_000 }, 'other').bytes })
  duplicates.see({ kind: 'advert', bytes: new Uint8Array(200) })
  duplicates.see({ kind: 'contact', bytes: node.advert({ sequence: 2_000 }).bytes })
  duplicates.see({ kind: 'tombstone', bytes: node.tombstone(1_000) })
  expect([duplicates.found, counts()]).toEqual([false, { told: 0, logged: 0 }])
  duplicates.see({ kind: 'advert', bytes: node.advert({ sequence: 1_001 }).bytes })
  expect([duplicates.found, counts()]).toEqual([true, { told: 1, logged: 1 }])
  // Who keeps no numbers cannot know.
  const fresh = watch(0)
  fresh.duplicates.see({ kind: 'advert', bytes: node.advert({ sequence: 1_001 }).bytes })
  expect(fresh.duplicates.found).toBe(false)
})

it('is told again while the other one goes on, five times in all, and logged once', () => {
  const node = createTestNode()
  const { duplicates, sequence, counts } = watch(1_000)
  for (let i = 1; i <= 6; i++) {
    duplicates.see({ kind: 'advert', bytes: node.advert({ sequence: sequence.last + 1 }).bytes })
    // This node says its own again.
    sequence.last += 2
  }
  expect(counts()).toEqual({ told: 5, logged: 1 })
  // When the other one leaves, this one has to come back.
  duplicates.see({ kind: 'tombstone', bytes: node.tombstone(sequence.last + 1) })
  expect(counts()).toEqual({ told: 6, logged: 1 })
})
