import type { Clock } from '../base/clock.ts'
import { apiLimits } from '../base/limits.ts'

/** What a key may do a minute; null: as much as the node can. */
export interface RateLimits {
  readonly requestsPerMinute: number | null
  readonly tokensPerMinute: number | null
}

export interface RateAnswer {
  /** Undefined: come in. Otherwise the seconds after which there is room again. */
  readonly retryAfterS: number | undefined
  /** OpenAI's x-ratelimit-* headers. */
  readonly headers: Readonly<Record<string, string>>
}

/** Two buckets for each key. They are full at first, so a minute's worth may come at once. */
export interface RateLimiter {
  /** Takes one request. */
  enter(id: string, limits: RateLimits): RateAnswer
  /** Takes tokens after they were computed; the bucket may become negative, and the next request waits. */
  charge(id: string, limits: RateLimits, nTokens: number): void
}

interface Bucket {
  level: number
  atMs: number
}

export function createRateLimiter(clock: Clock): RateLimiter {
  const buckets = new Map<string, Bucket>()

  const bucketOf = (id: string, kind: 'requests' | 'tokens', perMinute: number): Bucket => {
    const key = `${kind} ${id}`
    const nowMs = clock.monotonicMs()
    const found = buckets.get(key) ?? { level: perMinute, atMs: nowMs }
    // Keys that were taken away leave theirs behind: begin again rather than grow.
    if (buckets.size > 4 * apiLimits.keys) buckets.clear()
    found.level = Math.min(perMinute, found.level + ((nowMs - found.atMs) / 60_000) * perMinute)
    found.atMs = nowMs
    buckets.set(key, found)
    return found
  }
  const waitS = (bucket: Bucket, perMinute: number) => Math.max(0, ((1 - bucket.level) / perMinute) * 60)

  return {
    enter(id, { requestsPerMinute, tokensPerMinute }) {
      const headers: Record<string, string> = {}
      const kinds = { requests: requestsPerMinute, tokens: tokensPerMinute }
      let retryAfterS = 0
      for (const kind of ['requests', 'tokens'] as const) {
        const perMinute = kinds[kind]
        if (perMinute !== null) retryAfterS = Math.max(retryAfterS, waitS(bucketOf(id, kind, perMinute), perMinute))
      }
      for (const kind of ['requests', 'tokens'] as const) {
        const perMinute = kinds[kind]
        if (perMinute === null) continue
        const bucket = bucketOf(id, kind, perMinute)
        if (retryAfterS === 0 && kind === 'requests') bucket.level--
        headers[`x-ratelimit-limit-${kind}`] = String(perMinute)
        headers[`x-ratelimit-remaining-${kind}`] = String(Math.max(0, Math.floor(bucket.level)))
        headers[`x-ratelimit-reset-${kind}`] = `${(((perMinute - bucket.level) / perMinute) * 60).toFixed(3)}s`
      }
      return { retryAfterS: retryAfterS === 0 ? undefined : retryAfterS, headers }
    },
    charge(id, { tokensPerMinute }, nTokens) {
      if (tokensPerMinute !== null) bucketOf(id, 'tokens', tokensPerMinute).level -= nTokens
    },
  }
}
