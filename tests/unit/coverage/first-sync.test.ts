/** Of two that have connected one compares first; the other waits for it, less when it knows nobody yet. */
import { expect, test } from 'vitest'
import { createLoneKeeper, PEERS, peerIdOf } from './keeper-helpers.ts'

/** When a node that knows so many peers first compares with the one it has connected to, in ms. */
async function firstSync(nKnown: number, peerId: string): Promise<number | undefined> {
  const { keeper, clock, synced } = createLoneKeeper({ nFar: PEERS, crowd: PEERS, nKnown })
  keeper.connected(peerId)
  await clock.runUntil(5_000)
  keeper.stop()
  return synced[0]
}

test('who comes first by its PeerId begins at once, the other side later, and soon when it is alone', async () => {
  // The node itself is "self".
  expect(await firstSync(PEERS, 'zoe')).toBe(0)
  const later = peerIdOf(PEERS - 1)
  expect(await firstSync(PEERS, later)).toBe(1_500)
  expect(await firstSync(0, later)).toBe(400)
})
