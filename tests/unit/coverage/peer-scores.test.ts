import { describe, expect, it } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import { createPeerScores } from '../../../src/coverage/peer-scores.ts'

const { scoreHalfLifeMs, scoreWeight, scoredPeers } = coverageLimits

function newScores() {
  const time = { ms: 5_000 }
  return { scores: createPeerScores({ nowMs: () => 0, monotonicMs: () => time.ms }), time }
}
const times = (n: number, act: () => void) => {
  for (let i = 0; i < n; i++) act()
}

describe('the score of a peer', () => {
  it('is nothing at first, and between one half and the ends after a few observations', () => {
    const { scores } = newScores()
    expect(scores.of(['a'])).toBeNull()
    scores.worked('a')
    expect(scores.of(['a'])).toBeCloseTo(2 / 3)
    times(3, () => scores.failed('a'))
    expect(scores.of(['a'])).toBeCloseTo(2 / 6)
    times(2, () => scores.failed('b', 0.5))
    expect(scores.of(['b'])).toBeCloseTo(1 / 3)
    expect(scores.of(['c'])).toBeNull()
  })

  it('goes back to one half by half-lives, and then to nothing', () => {
    const { scores, time } = newScores()
    times(4, () => scores.worked('a'))
    expect(scores.of(['a'])).toBeCloseTo(5 / 6)
    time.ms += scoreHalfLifeMs
    expect(scores.of(['a'])).toBeCloseTo(3 / 4)
    time.ms += scoreHalfLifeMs
    expect(scores.of(['a'])).toBeCloseTo(2 / 3)
    // An observation does not make older ones young again.
    scores.failed('a')
    time.ms += scoreHalfLifeMs
    expect(scores.of(['a'])).toBeCloseTo(1.5 / 3)
    time.ms += 10 * scoreHalfLifeMs
    expect(scores.of(['a'])).toBeNull()
  })

  it('is halved by each broken rule, however much it has worked, and forgives that in time', () => {
    const { scores, time } = newScores()
    times(1_000, () => scores.worked('a'))
    const before = scores.of(['a']) ?? 0
    scores.broke('a')
    expect(scores.of(['a'])).toBeCloseTo(before / 2)
    scores.broke('a')
    expect(scores.of(['a'])).toBeCloseTo(before / 4)
    scores.broke('b')
    expect(scores.of(['b'])).toBeCloseTo(0.25)
    time.ms += scoreHalfLifeMs
    expect(scores.of(['b'])).toBeCloseTo(0.5 * Math.SQRT1_2)
  })

  it('is of one peer under all its names', () => {
    const { scores } = newScores()
    scores.worked('address')
    scores.broke('peer id')
    expect(scores.of(['address', 'peer id'])).toBeCloseTo(1 / 3)
  })

  it(`counts no more than the last ${scoreWeight}, so that nobody rests on a long good time`, () => {
    const { scores } = newScores()
    times(scoreWeight, () => scores.worked('new'))
    times(scoreWeight + 1, () => scores.worked('old'))
    const most = (scoreWeight + 1) / (scoreWeight + 2)
    expect([scores.of(['new']), scores.of(['old'])]).toEqual([most, most])
    times(1_000, () => scores.worked('old'))
    times(12, () => scores.failed('old'))
    expect(scores.of(['old'])).toBeLessThan(0.55)
  })

  it('is kept of so many names; the one longest untouched goes', () => {
    const { scores } = newScores()
    for (let i = 0; i <= scoredPeers; i++) scores.worked(`p${i}`)
    expect(scores.of(['p0'])).toBeNull()
    expect(scores.of(['p1'])).not.toBeNull()
    expect(scores.of([`p${scoredPeers}`])).not.toBeNull()
  })
})
