import { describe, expect, it } from 'vitest'
import { createExperience, estimateOf, type Seen, seenIn } from '../../../src/pipeline/experience.ts'

const asked = { modelId: new Uint8Array(32).fill(1), recipe: 'q8/1', split: true }
const seen = (tookMs: number, partsMs = 10): Seen => ({ ...asked, partsMs, tookMs })

describe('what answers took', () => {
  it('is what the next one is told, and the last answer counts for half', () => {
    const experience = createExperience()
    expect(experience.expect(asked, 10)).toBe(10)
    experience.begin()(seen(12))
    expect(experience.expect(asked, 10)).toBeCloseTo(12)
    experience.begin()(seen(8))
    expect(experience.expect(asked, 20)).toBeCloseTo(20)
    // Of this model and this way only.
    expect(experience.expect({ ...asked, split: false }, 10)).toBe(10)
    expect(experience.expect({ ...asked, recipe: 'q4/1' }, 10)).toBe(10)
    expect(experience.expect({ ...asked, modelId: new Uint8Array(32) }, 10)).toBe(10)
  })

  it('counts for no more than twice, and no less than half', () => {
    const experience = createExperience()
    experience.begin()(seen(1_000))
    expect(experience.expect(asked, 10)).toBe(20)
    const other = createExperience()
    other.begin()(seen(1))
    expect(other.expect(asked, 10)).toBe(5)
  })

  it('says nothing when others ran beside it, or when there is nothing to see', () => {
    const experience = createExperience()
    const [first, second] = [experience.begin(), experience.begin()]
    first(seen(20))
    second(seen(20))
    experience.begin()(undefined)
    experience.begin()(seen(20, 0))
    expect(experience.expect(asked, 10)).toBe(10)
    experience.begin()(seen(15))
    expect(experience.expect(asked, 10)).toBeCloseTo(15)
  })

  it('makes tokens per second of a chain, also of one that was opened before', () => {
    const experience = createExperience()
    const [split, solo] = [{}, undefined].map((route) => ({ plan: { route }, partsMs: 10 }))
    if (split === undefined || solo === undefined) return
    expect(estimateOf(asked, split, undefined)).toEqual({ solo: null, split: 100 })
    experience.begin()(seen(20))
    expect(estimateOf(asked, split, experience)).toEqual({ solo: null, split: 50 })
    expect(estimateOf(asked, solo, experience)).toEqual({ solo: 100, split: null })
    expect(estimateOf(asked, { ...solo, partsMs: null }, experience)).toEqual({ solo: null, split: null })
  })

  it('is seen in answers in plain steps over one way only', () => {
    const opened = { plan: { route: undefined }, partsMs: 5 } as Parameters<typeof seenIn>[1]
    const ended = { tokens: new Array<number>(16).fill(1), tokensPerSecond: 100, failovers: 0, accepted: 0 }
    expect(seenIn(asked, opened, ended)).toEqual({ ...asked, split: false, partsMs: 5, tookMs: 10 })
    expect(seenIn(asked, opened, { ...ended, tokens: ended.tokens.slice(1) })).toBeUndefined()
    expect(seenIn(asked, opened, { ...ended, failovers: 1 })).toBeUndefined()
    expect(seenIn(asked, opened, { ...ended, accepted: 1 })).toBeUndefined()
    expect(seenIn(asked, opened, { ...ended, tokensPerSecond: null })).toBeUndefined()
    expect(seenIn(asked, { ...opened, partsMs: null }, ended)).toBeUndefined()
  })
})
