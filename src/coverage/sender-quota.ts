import { coverageLimits } from '../base/limits.ts'

/** How much one sender may tell: a bucket of items, and patience with what is no valid record (swarm.md §2). */
export interface SenderQuotas {
  /** How many of `wanted` items may be looked at now; they count as used. 0 while the sender is not listened to. */
  take(peerId: string, wanted: number, nowMs: number): number
  /**
   * An item of this sender was forged or malformed. That is this node's own evidence, and the only one that counts: what
   * others say about a peer is never listened to. Half of it is forgotten every badHalfLifeMs.
   */
  reportBad(peerId: string, nowMs: number): void
}

interface Bucket {
  tokens: number
  /** Bad items, those long ago counted less, as of badMs. */
  bad: number
  badMs: number
  atMs: number
  deafUntilMs: number
}

/** Senders remembered; the one longest unheard goes first. */
const SENDERS = 1_024

export function createSenderQuotas(): SenderQuotas {
  const buckets = new Map<string, Bucket>()
  const bucketOf = (peerId: string, nowMs: number): Bucket => {
    const bucket = buckets.get(peerId) ?? {
      tokens: coverageLimits.itemsBurst,
      bad: 0,
      badMs: nowMs,
      atMs: nowMs,
      deafUntilMs: 0,
    }
    const passedS = Math.max(0, nowMs - bucket.atMs) / 1_000
    bucket.tokens = Math.min(coverageLimits.itemsBurst, bucket.tokens + passedS * coverageLimits.itemsPerSecond)
    bucket.atMs = nowMs
    buckets.delete(peerId)
    if (buckets.size >= SENDERS) buckets.delete(buckets.keys().next().value ?? '')
    buckets.set(peerId, bucket)
    return bucket
  }
  return {
    take(peerId, wanted, nowMs) {
      const bucket = bucketOf(peerId, nowMs)
      if (nowMs < bucket.deafUntilMs) return 0
      const granted = Math.min(wanted, Math.floor(bucket.tokens))
      bucket.tokens -= granted
      return granted
    },
    reportBad(peerId, nowMs) {
      const bucket = bucketOf(peerId, nowMs)
      bucket.bad = bucket.bad * 0.5 ** ((nowMs - bucket.badMs) / coverageLimits.badHalfLifeMs) + 1
      bucket.badMs = nowMs
      // Strictly: of items that come within seconds a little is forgotten, too.
      if (bucket.bad <= coverageLimits.badItems - 1) return
      bucket.bad = 0
      bucket.deafUntilMs = nowMs + coverageLimits.ignoreMs
    },
  }
}
