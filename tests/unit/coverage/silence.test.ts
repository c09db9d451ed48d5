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
