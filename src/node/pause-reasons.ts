import { cpus } from 'node:os'
import type { Config } from '../base/config.ts'
import type { Battery } from './detect-parsers.ts'

/** What decides whether a node serves others at this moment. */
export interface Circumstances {
  /** The owner said `llm-node pause`. */
  readonly asked: boolean
  /** Local time. */
  readonly now: Date
  /** null: none. */
  readonly battery: Battery | null
  /** Share of all processors that other programs use, 0 to 1. */
  readonly othersLoad: number
  /** It pauses because of `othersLoad` already. */
  readonly pausedByLoad: boolean
}

export interface PauseReason {
  readonly kind: 'asked' | 'hours' | 'battery' | 'load'
  readonly text: string
}

/** Other programs may use half; it serves again when they use much less, so that it does not come and go. */
const BUSY_SHARE = 0.5
const CALM_SHARE = 0.35

/** Why this node serves nobody now, or null. Pure. */
export function pauseReason(care: Config['care'], circumstances: Circumstances): PauseReason | null {
  const { asked, now, battery, othersLoad, pausedByLoad } = circumstances
  if (asked) return { kind: 'asked', text: 'paused by its owner; llm-node resume ends that' }
  if (care.hours !== null && !isWithin(care.hours, now)) {
    return { kind: 'hours', text: `outside its hours, ${care.hours} (care.hours)` }
  }
  if (care.pauseOnBattery && battery?.discharging) {
    return { kind: 'battery', text: 'the machine runs on its battery (care.pauseOnBattery)' }
  }
  if (care.onlyWhenIdle && othersLoad > (pausedByLoad ? CALM_SHARE : BUSY_SHARE)) {
    return { kind: 'load', text: 'other programs use the processor (care.onlyWhenIdle)' }
  }
  return null
}

/** Whether the local time lies in "22:00-07:00"; from a time to itself is the whole day. */
export function isWithin(hours: string, now: Date): boolean {
  const [from = 0, to = 0] = hours.split('-').map((time) => {
    const [hour = 0, minute = 0] = time.split(':').map(Number)
    return 60 * hour + minute
  })
  const minute = 60 * now.getHours() + now.getMinutes()
  if (from === to) return true
  return from < to ? from <= minute && minute < to : from <= minute || minute < to
}

/** Share of all processors that other programs have used since the last call, 0 to 1; the first call gives 0. */
export function createOthersLoad(): () => number {
  let before = look()
  return () => {
    const now = look()
    const totalMs = now.totalMs - before.totalMs
    const othersMs = now.busyMs - before.busyMs - (now.ownMs - before.ownMs)
    before = now
    return totalMs <= 0 ? 0 : Math.min(1, Math.max(0, othersMs / totalMs))
  }
}

function look(): { totalMs: number; busyMs: number; ownMs: number } {
  let totalMs = 0
  let idleMs = 0
  for (const { times } of cpus()) {
    totalMs += times.user + times.nice + times.sys + times.idle + times.irq
    idleMs += times.idle
  }
  const { user, system } = process.cpuUsage()
  return { totalMs, busyMs: totalMs - idleMs, ownMs: (user + system) / 1_000 }
}
