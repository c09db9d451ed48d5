import { describe, expect, it } from 'vitest'
import { createRateLimiter } from '../../../src/api/rate-limit.ts'

function start() {
  let nowMs = 0
  const limiter = createRateLimiter({ nowMs: () => nowMs, monotonicMs: () => nowMs })
  return { limiter, pass: (ms: number) => (nowMs += ms) }
}

describe('the limit of a key', () => {
  it('lets a minute of requests come at once, then one by one', () => {
    const { limiter, pass } = start()
    const limits = { requestsPerMinute: 6, tokensPerMinute: null }
    const enter = () => limiter.enter('a', limits)
    for (let left = 5; left >= 0; left--) {
      expect(enter()).toMatchObject({
        retryAfterS: undefined,
        headers: { 'x-ratelimit-remaining-requests': `${left}` },
      })
    }
    expect(enter().retryAfterS).toBeCloseTo(10)
    pass(9_000)
    expect(enter().retryAfterS).toBeCloseTo(1)
    pass(1_001)
    expect(enter().retryAfterS).toBeUndefined()
    expect(enter().retryAfterS).toBeCloseTo(10, 1)
  })

  it('counts tokens afterwards and makes the next request wait for them', () => {
    const { limiter, pass } = start()
    const limits = { requestsPerMinute: null, tokensPerMinute: 60 }
    expect(limiter.enter('a', limits).retryAfterS).toBeUndefined()
    limiter.charge('a', limits, 90)
    expect(limiter.enter('a', limits)).toMatchObject({ headers: { 'x-ratelimit-remaining-tokens': '0' } })
    expect(limiter.enter('a', limits).retryAfterS).toBeCloseTo(31)
    pass(31_001)
    expect(limiter.enter('a', limits).retryAfterS).toBeUndefined()
  })

  it('keeps keys apart, and knows none where none is set', () => {
    const { limiter } = start()
    const one = { requestsPerMinute: 1, tokensPerMinute: null }
    expect(limiter.enter('a', one).retryAfterS).toBeUndefined()
    expect(limiter.enter('b', one).retryAfterS).toBeUndefined()
    expect(limiter.enter('a', one).retryAfterS).toBeCloseTo(60)
    expect(limiter.enter('c', { requestsPerMinute: null, tokensPerMinute: null })).toEqual({
      retryAfterS: undefined,
      headers: {},
    })
  })
})
