import type { Clock } from '../base/clock.ts'
import { createRecentMap } from '../base/recent-map.ts'
import type { OnionLimits, Rate } from './types.ts'

export interface TokenBucket {
  /** Takes `amount` if there is so much; the bucket starts full. */
  take(amount: number): boolean
  /** Milliseconds until `amount` can be taken. */
  waitMs(amount: number): number
}

export function createTokenBucket(rate: Rate, clock: Clock): TokenBucket {
  let level = rate.burst
  let atMs = clock.monotonicMs()
  const refill = () => {
    const nowMs = clock.monotonicMs()
    level = Math.min(rate.burst, level + ((nowMs - atMs) / 1_000) * rate.perS)
    atMs = nowMs
  }
  return {
    take(amount) {
      refill()
      if (level < amount) return false
      level -= amount
      return true
    },
    waitMs(amount) {
      refill()
      // More than the burst never fits at once: the caller then sends when the bucket is full.
      return Math.max(0, ((Math.min(amount, rate.burst) - level) / rate.perS) * 1_000)
    },
  }
}

export interface CreateSource {
  readonly peer: string
  readonly subnet: string | undefined
  readonly trusted: boolean
}

/** Whether a CREATE may go on (protocol.md §7). Trusted peers have buckets of their own, so strangers cannot starve them. */
export function createCreateLimiter(limits: OnionLimits, clock: Clock): (source: CreateSource) => boolean {
  const times = (rate: Rate, factor: number): Rate => ({ perS: rate.perS * factor, burst: rate.burst * factor })
  const buckets = createRecentMap<TokenBucket>(2 * limits.rememberedPeers)
  const totals = [1, limits.trustedFactor].map((factor) => createTokenBucket(times(limits.createTotal, factor), clock))
  const bucket = (key: string, rate: Rate): TokenBucket => {
    const known = buckets.get(key)
    if (known !== undefined) return known
    const fresh = createTokenBucket(rate, clock)
    buckets.set(key, fresh)
    return fresh
  }
  return ({ peer, subnet, trusted }) => {
    const factor = trusted ? limits.trustedFactor : 1
    if (!bucket(`${factor} ${peer}`, times(limits.createPerPeer, factor)).take(1)) return false
    if (subnet !== undefined && !bucket(`${factor} ${subnet}`, times(limits.createPerSubnet, factor)).take(1))
      return false
    return totals[trusted ? 1 : 0]?.take(1) ?? false
  }
}
