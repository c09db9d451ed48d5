import { describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { createScheduler, type Schedulable, type Work } from '../../../src/shard/scheduler.ts'

interface Session extends Schedulable {
  readonly name: string
  closed: boolean
  released: number
}

/** A scheduler whose runs end when they are told to; rows have one column. */
function createStage({ slots = 4 } = {}) {
  const runs: { readonly rows: string; end(error?: Error): void }[] = []
  const full = new Set<Session>()
  const scheduler = createScheduler<Session>({
    hiddenSize: 1,
    clock: systemClock,
    slots,
    canShare: (a, b) => a.name[0] === b.name[0],
    maxRows: () => 10,
    async reserve({ session }) {
      if (full.has(session)) throw new LlmNodeError('OUT_OF_MEMORY', 'no memory')
    },
    run: (batch: readonly Work<Session>[]) =>
      new Promise((resolve, reject) => {
        const rows = batch.map(({ session, pos, nTokens }) => `${session.name}@${pos}+${nTokens}`).join(' ')
        const results = batch.map(({ hidden }) => hidden.map((value) => value + 100))
        runs.push({ rows, end: (error) => (error === undefined ? resolve(results) : reject(error)) })
      }),
  })
  const open = (name: string): Session => {
    const session: Session = {
      name,
      length: 0,
      closed: false,
      local: false,
      released: 0,
      release() {
        session.released++
      },
    }
    return session
  }
  const rows = (count: number) => Float32Array.from({ length: count }, (_, i) => i)
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  /** Ends the runs one after the other until nothing waits. Which rows each had. */
  const finish = async () => {
    for (let i = 0; ; i++) {
      await turn()
      if (runs[i] === undefined) return runs.map((run) => run.rows)
      runs[i]?.end()
    }
  }
  return { scheduler, runs, full, open, rows, turn, finish }
}

describe('a run takes', () => {
  test('decode steps first and with them one chunk; who waited longest is always among them', async () => {
    const { scheduler, open, rows, finish } = createStage()
    const [a, b, c, d, e] = ['a1', 'a2', 'a3', 'a4', 'a5'].map(open)
    if (!a || !b || !c || !d || !e) throw new TypeError()
    const calls = [
      scheduler.forward(a, 0, rows(25)),
      scheduler.forward(b, 0, rows(12)),
      scheduler.forward(c, 0, rows(1)),
      scheduler.forward(d, 0, rows(2)),
      scheduler.forward(e, 0, rows(8)),
    ]
    expect(await finish()).toEqual(['a1@0+10', 'a2@0+10 a3@0+1 a4@0+2 a5@0+8', 'a1@10+10 a2@10+2', 'a1@20+5'])
    const [first] = await Promise.all(calls)
    expect([...(first ?? [])]).toEqual(Array.from({ length: 25 }, (_, i) => 100 + (i % 25)))
    expect([a, b, c, d, e].map(({ length }) => length)).toEqual([25, 12, 1, 2, 8])
  })

  test('only sessions that can share it, and as many as there are slots', async () => {
    const { scheduler, open, rows, finish } = createStage({ slots: 2 })
    const sessions = ['a1', 'b1', 'a2', 'a3', 'b2'].map(open)
    for (const session of sessions) void scheduler.forward(session, 0, rows(1))
    expect(await finish()).toEqual(['a1@0+1', 'b1@0+1 b2@0+1', 'a2@0+1 a3@0+1'])
  })
})

describe('what fails', () => {
  test('for want of memory fails for one session only', async () => {
    const { scheduler, full, open, rows, finish } = createStage()
    const [a, b, c] = ['a1', 'a2', 'a3'].map(open)
    if (!a || !b || !c) throw new TypeError()
    full.add(b)
    const calls = [a, b, c].map((session) => scheduler.forward(session, 0, rows(1)))
    const results = Promise.allSettled(calls)
    expect(await finish()).toEqual(['a1@0+1', 'a3@0+1'])
    expect((await results).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect([a, b, c].map(({ length }) => length)).toEqual([1, 0, 1])
  })

  test('in the run fails for all in it, and nothing of it counts', async () => {
    const { scheduler, runs, open, rows, turn } = createStage()
    const [a, b] = ['a1', 'a2'].map(open)
    if (!a || !b) throw new TypeError()
    const first = scheduler.forward(a, 0, rows(1))
    await turn()
    runs[0]?.end()
    await first
    const results = Promise.allSettled([scheduler.forward(b, 0, rows(1)), scheduler.forward(a, 1, rows(1))])
    await turn()
    runs[1]?.end(new Error('broken'))
    await turn()
    runs[2]?.end(new Error('broken'))
    expect((await results).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect([a.length, b.length]).toEqual([1, 0])
  })

  test('a session that is closed in a run is released after it, the others go on', async () => {
    const { scheduler, runs, open, rows, turn } = createStage()
    const [a, b, c] = ['a1', 'a2', 'a3'].map(open)
    if (!a || !b || !c) throw new TypeError()
    void scheduler.forward(a, 0, rows(1))
    const results = Promise.allSettled([scheduler.forward(b, 0, rows(1)), scheduler.forward(c, 0, rows(1))])
    await turn()
    runs[0]?.end()
    await turn()
    expect(runs[1]?.rows).toBe('a2@0+1 a3@0+1')
    b.closed = true
    scheduler.drop(b)
    expect(b.released).toBe(0)
    runs[1]?.end()
    expect((await results).map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
    await scheduler.idle()
    expect(b.released).toBe(1)
  })
})
