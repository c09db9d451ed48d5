import type { Clock } from '../base/clock.ts'

/** Share of the last run's time that a run may wait for those who will be back. */
const waitShare = 1 / 8
/** Below this no timer is set: it would come later than what it waits for. */
const leastWaitMs = 1

/**
 * Who is about to come back. Sessions that decode at the same pace come with their next rows shortly after a run; whoever
 * then ran at once with the first of them would run twice, with half of the rows each, from then on.
 */
export interface Returns<Session extends object> {
  /** The session has rows again. */
  came(session: Session): void
  /** A run of these took `ms`. */
  ran(sessions: readonly Session[], ms: number): void
  forget(session: Session): void
  /** Somebody who was quick the last time is still missing: `again` is called when there is no more use in waiting. */
  expected(again: () => void): boolean
}

export function createReturns<Session extends object>(clock: Clock): Returns<Session> {
  /** When their last run ended, of those that have not come back. */
  const away = new Map<Session, number>()
  /** How long it took the last time. */
  const tookMs = new WeakMap<Session, number>()
  let waitMs = 0
  let timer: NodeJS.Timeout | undefined

  return {
    came(session) {
      const endedMs = away.get(session)
      if (endedMs === undefined) return
      away.delete(session)
      tookMs.set(session, clock.monotonicMs() - endedMs)
    },
    ran(sessions, ms) {
      const nowMs = clock.monotonicMs()
      waitMs = ms * waitShare
      for (const [session, endedMs] of away) {
        if (nowMs - endedMs <= waitMs) continue
        away.delete(session)
        tookMs.set(session, nowMs - endedMs)
      }
      for (const session of sessions) away.set(session, nowMs)
    },
    forget: (session) => void away.delete(session),
    expected(again) {
      clearTimeout(timer)
      if (waitMs < leastWaitMs) return false
      const nowMs = clock.monotonicMs()
      let leftMs = 0
      for (const [session, endedMs] of away) {
        if ((tookMs.get(session) ?? Number.POSITIVE_INFINITY) < waitMs)
          leftMs = Math.max(leftMs, endedMs + waitMs - nowMs)
      }
      if (leftMs <= 0) return false
      timer = setTimeout(again, Math.ceil(leftMs))
      return true
    },
  }
}
