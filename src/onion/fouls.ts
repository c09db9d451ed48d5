import type { Clock } from '../base/clock.ts'
import { createRecentMap } from '../base/recent-map.ts'
import { createTokenBucket, type TokenBucket } from './rate-limit.ts'
import type { OnionLimits } from './types.ts'

/**
 * Who breaks rules again and again. One broken rule costs a circuit; but a stream, a handshake and a circuit that is ended
 * at once cost this node more than they cost a stranger, so whoever has made too many of them is sent away for a while.
 */
export interface Fouls {
  /** A circuit of this peer has ended by its fault, or before it was set up. */
  note(peer: string): void
  isOut(peer: string): boolean
}

/** `sendAway` is called once each time that a peer has had enough. */
export function createFouls(
  limits: Pick<OnionLimits, 'fouls' | 'foulMs' | 'rememberedPeers'>,
  clock: Clock,
  sendAway: (peer: string, ms: number) => void,
): Fouls {
  const left = createRecentMap<TokenBucket>(limits.rememberedPeers)
  const untilMs = createRecentMap<number>(limits.rememberedPeers)
  const isOut = (peer: string) => (untilMs.get(peer) ?? Number.NEGATIVE_INFINITY) > clock.monotonicMs()
  return {
    isOut,
    note(peer) {
      const bucket = left.get(peer) ?? createTokenBucket(limits.fouls, clock)
      left.set(peer, bucket)
      if (bucket.take(1) || isOut(peer)) return
      untilMs.set(peer, clock.monotonicMs() + limits.foulMs)
      sendAway(peer, limits.foulMs)
    },
  }
}
