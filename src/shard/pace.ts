import type { Clock } from '../base/clock.ts'

/** Share of a step's time that a run may wait for those who are about to come. */
const waitShare = 1 / 8
/** The same for those whose head is computed by these processors: they are not idle in the meantime. */
const localWaitShare = 1 / 2
/** Below this no timer is set: it would come later than what it waits for. */
const leastWaitMs = 1
/** A session that takes so many times longer than the last time is not on its way any more. */
const patience = 4

/**
 * When sessions come back with their next rows, and how many of them a run should therefore take. On a node that holds
 * all layers they come shortly after a run, all of them: whoever ran at once with the first one would run twice, with
 * half of the rows each, from then on, and each half's heads would be computed beside the other half's run, which makes them
 * as late as the run is long. In a pipeline of n nodes they come after n - 1 runs elsewhere: runs of all sessions would
 * leave the other nodes without work, runs of every n-th keep all of them busy.
 */
export interface Pace<Session extends Paced> {
  /** The session has rows again. */
  came(session: Session): void
  /** A run of these is over and they wait for nothing more. `stepMs`: what it took, if all were decode steps. */
  ran(sessions: readonly Session[], stepMs?: number): void
  forget(session: Session): void
  /** Sessions that a run should take when these wait. */
  share(waiting: readonly Session[]): number
  /** Another one is about to come: `again` is called when there is no more use in waiting. */
  expected(again: () => void): boolean
}

export interface Paced {
  /** Nothing of the model is computed elsewhere. */
  readonly local: boolean
}

export function createPace<Session extends Paced>(clock: Clock): Pace<Session> {
  /** When their last run ended, of those that have not come back. */
  const away = new Map<Session, number>()
  /** How long it took the last time. */
  const tookMs = new WeakMap<Session, number>()
  let runMs = 0
  let waitsSinceMs: number | undefined
  let timer: NodeJS.Timeout | undefined

  const dropLate = (nowMs: number) => {
    for (const [session, endedMs] of away) {
      const usualMs = Math.max(tookMs.get(session) ?? 0, runMs)
      if (nowMs - endedMs > patience * usualMs) away.delete(session)
    }
  }
  return {
    came(session) {
      const endedMs = away.get(session)
      if (endedMs === undefined) return
      away.delete(session)
      tookMs.set(session, clock.monotonicMs() - endedMs)
    },
    ran(sessions, stepMs) {
      const nowMs = clock.monotonicMs()
      if (stepMs !== undefined) runMs = stepMs
      waitsSinceMs = undefined
      dropLate(nowMs)
      for (const session of sessions) away.set(session, nowMs)
    },
    forget: (session) => void away.delete(session),
    share(waiting) {
      const sessions = [...away.keys(), ...waiting]
      const known = sessions.flatMap((session) => (session.local ? [] : (tookMs.get(session) ?? [])))
      if (known.length === 0 || runMs === 0) return sessions.length
      // The lower median: where the others' run here was what kept one away, most of them were quick.
      const usualMs = known.sort((a, b) => a - b)[(known.length - 1) >> 1] ?? 0
      return Math.ceil(sessions.length / (1 + Math.round(usualMs / runMs)))
    },
    expected(again) {
      clearTimeout(timer)
      const nowMs = clock.monotonicMs()
      waitsSinceMs ??= nowMs
      const waitedMs = nowMs - waitsSinceMs
      const left = [...away].map(([session, endedMs]) => {
        const waitMs = runMs * (session.local ? localWaitShare : waitShare)
        const dueMs = endedMs + (tookMs.get(session) ?? Number.POSITIVE_INFINITY)
        const isNear = session.local ? nowMs - endedMs < runMs : Math.abs(dueMs - nowMs) < waitMs
        return isNear && waitMs >= leastWaitMs ? waitMs - waitedMs : 0
      })
      const leftMs = Math.max(0, ...left)
      if (leftMs === 0) return false
      timer = setTimeout(again, Math.ceil(leftMs))
      return true
    },
  }
}
