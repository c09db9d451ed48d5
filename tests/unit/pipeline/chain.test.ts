import { describe, expect, test } from 'vitest'
import type { HopTarget, Ring } from '../../../src/onion/ring.ts'
import { createRingChain } from '../../../src/pipeline/chain.ts'
import { sendRows } from '../../../src/pipeline/send-rows.ts'

/** A ring that answers when it is told to. */
function createSlowRing(maxRows: number, nHops: number) {
  const answers: (() => void)[] = []
  const hop = (role: 'compute' | 'relay'): HopTarget => {
    const [addressKey, onionKey] = [new Uint8Array(32), new Uint8Array(32)]
    return { role, span: { start: 0, end: 1 }, addressKey, onionKey, peerId: '', addrs: [] }
  }
  const ring: Ring = {
    hops: [hop('relay'), ...Array.from({ length: nHops }, () => hop('compute')), hop('relay')],
    maxContext: 4_096,
    maxRows,
    lifeS: 60,
    hopRttMs: [],
    ended: new Promise(() => {}),
    forward: ({ hidden, want }) =>
      new Promise((resolve) => {
        answers.push(() => resolve({ hidden: hidden.slice(hidden.length - want) }))
      }),
    close: async () => {},
  } as Partial<Ring> as Ring
  const chain = createRingChain(ring, () => ({
    span: { start: 0, end: 1 },
    address: null,
    ms: null,
    linkMs: null,
    reason: '',
  }))
  return { chain, answers }
}

describe('a long prompt on a ring', () => {
  test.each([
    // Rows of the window, compute hops, rows of a frame.
    [4_000, 2, 1_000],
    [255, 2, 63],
    [127, 3, 25],
    [20, 6, 8],
    [6, 2, 6],
  ])('of %i rows under way and %i hops has frames of %i', (maxRows, nHops, frame) => {
    expect(createSlowRing(maxRows, nHops).chain.maxRows).toBe(frame)
  })

  test('is under way to all hops before the first of them has answered', async () => {
    const { chain, answers } = createSlowRing(40, 2)
    const ends = { embed: async (ids: readonly number[]) => Float32Array.from(ids) }
    const ids = Array.from({ length: 35 }, (_, i) => i)
    const rows = sendRows(chain, ends, { ids, pos: 0, want: 2 })
    await new Promise((resolve) => setImmediate(resolve))
    expect(answers.length).toBe(4)
    for (const answer of answers) answer()
    expect([...(await rows)]).toEqual([33, 34])
  })
})
