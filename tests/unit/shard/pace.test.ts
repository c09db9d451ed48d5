import { describe, expect, test } from 'vitest'
import { createPace } from '../../../src/shard/pace.ts'

interface Stub {
  readonly id: number
  readonly local: boolean
}

function createStage({ local = false } = {}) {
  let nowMs = 1_000
  const sessions = Array.from({ length: 8 }, (_, id): Stub => ({ id, local }))
  const pace = createPace<Stub>({ nowMs: () => nowMs, monotonicMs: () => nowMs })
  const pass = (ms: number) => {
    nowMs += ms
  }
  /** All of them run for `runMs` and come back after `awayMs`. */
  const round = (who: readonly Stub[], runMs: number, awayMs: number) => {
    pass(runMs)
    pace.ran(who, runMs)
    pass(awayMs)
    for (const session of who) pace.came(session)
  }
  return { sessions, pace, pass, round }
}

const never = () => {}

describe('how many sessions a run should take', () => {
  test('all, while nothing is known and where they come straight back', () => {
    const { sessions, pace, round } = createStage()
    expect(pace.share(sessions)).toBe(8)
    round(sessions, 40, 3)
    expect(pace.share(sessions)).toBe(8)
  })

  test('all, when the first ran alone and the others kept it away', () => {
    const { sessions, pace, pass } = createStage()
    const [first, rest] = [sessions.slice(0, 1), sessions.slice(1)]
    pace.ran(first, 30)
    pass(40)
    pace.ran(rest, 40)
    for (const session of sessions) pace.came(session)
    expect(pace.share(sessions)).toBe(8)
  })

  test('every n-th in a pipeline of n nodes', () => {
    const { sessions, pace, round } = createStage()
    round(sessions, 40, 43)
    expect(pace.share(sessions)).toBe(4)
    round(sessions, 40, 90)
    expect(pace.share(sessions)).toBe(3)
  })

  test('those under way count, those that stay away do not', () => {
    const { sessions, pace, pass, round } = createStage()
    round(sessions, 40, 43)
    pass(40)
    pace.ran(sessions.slice(0, 4), 40)
    expect(pace.share(sessions.slice(4))).toBe(4)
    pass(200)
    pace.ran([], 40)
    expect(pace.share(sessions.slice(4))).toBe(2)
  })
})

describe('sessions whose head is computed here, too', () => {
  test('share one run, however long their heads took beside the run of others', () => {
    const { sessions, pace, round } = createStage({ local: true })
    round(sessions, 40, 43)
    expect(pace.share(sessions)).toBe(8)
  })

  test('are waited for, half a run long, so that two halves become one again', () => {
    const { sessions, pace, pass, round } = createStage({ local: true })
    const [first, second] = [sessions.slice(0, 4), sessions.slice(4)]
    round(first, 40, 35)
    round(second, 40, 35)
    pace.ran(first, 40)
    for (const session of second) pace.came(session)
    expect(pace.expected(never)).toBe(true)
    pass(19)
    expect(pace.expected(never)).toBe(true)
    pass(2)
    expect(pace.expected(never)).toBe(false)
  })

  test('and no longer when they did not come: their answer has ended', () => {
    const { sessions, pace, pass, round } = createStage({ local: true })
    round(sessions, 40, 3)
    pace.ran(sessions, 40)
    pass(20)
    for (const session of sessions.slice(1)) pace.came(session)
    expect(pace.expected(never)).toBe(true)
    pass(21)
    expect(pace.expected(never)).toBe(false)
    pass(40)
    pace.ran(sessions.slice(1), 40)
    for (const session of sessions.slice(1)) pace.came(session)
    expect(pace.expected(never)).toBe(false)
  })
})

describe('waiting for those who are about to come', () => {
  test('as long as an eighth of a step, for who was that quick the last time', () => {
    const { sessions, pace, pass, round } = createStage()
    round(sessions, 40, 3)
    pass(40)
    pace.ran(sessions.slice(0, 7), 40)
    expect(pace.expected(never)).toBe(true)
    pass(3)
    for (const session of sessions.slice(0, 6)) pace.came(session)
    expect(pace.expected(never)).toBe(true)
    pass(3)
    expect(pace.expected(never)).toBe(false)
  })

  test('not for who takes longer, has gone, or was never seen, and not for a moment', () => {
    const { sessions, pace, pass, round } = createStage()
    const first = sessions.slice(0, 1)
    pace.ran(first, 40)
    expect(pace.expected(never)).toBe(false)
    round(first, 40, 43)
    pace.ran(first, 40)
    pass(1)
    expect(pace.expected(never)).toBe(false)
    round(first, 40, 2)
    pace.ran(first, 40)
    expect(pace.expected(never)).toBe(true)
    for (const session of first) pace.forget(session)
    expect(pace.expected(never)).toBe(false)
    round(sessions, 4, 0.1)
    pace.ran(sessions, 4)
    expect(pace.expected(never)).toBe(false)
  })
})
