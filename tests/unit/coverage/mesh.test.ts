/** Connections that a node makes by itself: a few anywhere, and in a crowd some more to those nearest to it. */
import { describe, expect, it } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import { createLoneKeeper, PEERS, peerIdOf, TICK_MS } from './keeper-helpers.ts'

const { meshMost, meshPeers } = coverageLimits
/** Of those nearest, with whom a node in a crowd connects: NEAR in keeper.ts. */
const NEAR = 4

/** To whom a node connects that is connected to the `nFar` farthest of 60 peers, in that order. */
async function meshOf(nFar: number, crowd: number): Promise<readonly string[]> {
  const { keeper, clock, table, dialled } = createLoneKeeper({ nFar, crowd })
  expect(table.all()).toHaveLength(PEERS)
  keeper.start()
  await clock.runUntil(20 * TICK_MS)
  keeper.stop()
  return dialled
}

describe('in a crowd a node connects', () => {
  it('to the nearest, until a few of its neighbours are', async () => {
    expect(await meshOf(meshMost - NEAR - 1, PEERS / 2)).toEqual([0, 1, 2, 3].map(peerIdOf))
  })

  it(`to nobody once it has ${meshMost} neighbours, however far they are`, async () => {
    expect(await meshOf(meshMost - 1, PEERS / 2)).toEqual([peerIdOf(0)])
    expect(await meshOf(meshMost, PEERS / 2)).toEqual([])
  })
})

describe('outside a crowd a node connects', () => {
  it(`to anybody, until it has ${meshPeers} neighbours`, async () => {
    expect(await meshOf(meshPeers - 2, PEERS)).toHaveLength(2)
    expect(await meshOf(meshPeers, PEERS)).toEqual([])
  })
})
