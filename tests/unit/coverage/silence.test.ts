/** A connected peer that answers no ping does not count for long; but who is busy himself doubts nobody. */
import { expect, test } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import type { AdvertTable } from '../../../src/coverage/advert-table.ts'
import { createLoneKeeper, PEERS, peerIdOf, TICK_MS } from './keeper-helpers.ts'

const SILENT = peerIdOf(PEERS - 1)
const isLive = (table: AdvertTable, nowMs: number) => table.live(nowMs).some(({ advert }) => advert.peerId === SILENT)

/** A node with one peer that is mute until `mute.over`; its own timers come `lateMs` late. */
function createMute(lateMs: number) {
  const mute = { over: false }
  const ping = (peerId: string, { signal }: { signal: AbortSignal }) =>
    peerId === SILENT && !mute.over
      ? new Promise<number>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      : Promise.resolve(1)
  const lone = createLoneKeeper({
    ...{ nFar: coverageLimits.meshPeers, crowd: PEERS, ping },
    timersOf: (clock) => ({ after: (ms, run) => clock.after(ms + lateMs, run) }),
  })
  lone.keeper.start()
  return { ...lone, mute }
}

test('it is doubted after three rounds, and counts again with its first answer', async () => {
  const { keeper, clock, table, mute } = createMute(0)
  await clock.runUntil(2 * TICK_MS)
  expect(isLive(table, clock.monotonicMs())).toBe(true)
  await clock.runUntil(8 * TICK_MS)
  expect(isLive(table, clock.monotonicMs())).toBe(false)
  expect(table.live(clock.monotonicMs())).toHaveLength(PEERS - 1)
  mute.over = true
  await clock.runUntil(12 * TICK_MS)
  expect(isLive(table, clock.monotonicMs())).toBe(true)
  keeper.stop()
})

test('a node whose own timers come late doubts nobody', async () => {
  const { keeper, clock, table } = createMute(150)
  await clock.runUntil(20 * TICK_MS)
  expect(isLive(table, clock.monotonicMs())).toBe(true)
  keeper.stop()
})

/** A node with one peer whose answers take `takesMs`. */
function createSlow(takesMs: number) {
  const asked: { peerId: string; atMs: number }[] = []
  const lone = createLoneKeeper({
    ...{ nFar: coverageLimits.meshPeers, crowd: PEERS },
    ping(peerId, { signal }) {
      asked.push({ peerId, atMs: lone.clock.monotonicMs() })
      if (peerId !== SILENT) return Promise.resolve(1)
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        lone.clock.after(takesMs, () => resolve(takesMs))
      })
    },
  })
  lone.keeper.start()
  return { ...lone, asked }
}

test('one that answers late is not silent, and how late says nothing of the way to it', async () => {
  const { keeper, clock, table, trips, asked } = createSlow(2.9 * TICK_MS)
  for (let ms = TICK_MS; ms <= 60 * TICK_MS; ms += TICK_MS) {
    await clock.runUntil(ms)
    expect(isLive(table, clock.monotonicMs())).toBe(true)
  }
  expect(asked.filter(({ peerId }) => peerId === SILENT).length).toBeGreaterThan(2)
  expect(trips.has(SILENT)).toBe(false)
  expect(trips.get(peerIdOf(PEERS - 2))).toBe(1)
  keeper.stop()
})

test('one that answers later than three ticks is silent', async () => {
  const { keeper, clock, table } = createSlow(3.1 * TICK_MS)
  await clock.runUntil(8 * TICK_MS)
  expect(isLive(table, clock.monotonicMs())).toBe(false)
  keeper.stop()
})

test('a silent neighbour keeps nobody waiting: it is asked once at a time, and the others as often as ever', async () => {
  const askedOf = async (takesMs: number) => {
    const { keeper, clock, asked } = createSlow(takesMs)
    await clock.runUntil(100 * TICK_MS)
    keeper.stop()
    return asked
  }
  const [quick, silent] = [await askedOf(1), await askedOf(1e9)]
  const others = (asked: typeof quick) => asked.filter(({ peerId }) => peerId !== SILENT)
  expect(others(silent)).toEqual(others(quick))
  const times = silent.filter(({ peerId }) => peerId === SILENT).map(({ atMs }) => atMs)
  for (const [i, atMs] of times.entries())
    if (i > 0) expect(atMs - (times[i - 1] ?? 0)).toBeGreaterThanOrEqual(3 * TICK_MS)
  expect(times.length).toBeGreaterThan(20)
})
