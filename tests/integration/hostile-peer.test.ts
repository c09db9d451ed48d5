/**
 * A node that is attacked over real libp2p, in a process of its own, goes on serving: the honest session's rows stay what
 * they were, its heap stays below twice what the attacker sent, and nothing is left. tests/long has the whole of it, with
 * throughput: here other tests run at the same time.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../e2e/swarm.ts'
import { ATTACKS, createHostileScene, type HostileScene } from '../helpers/hostile/hostile.ts'

/** What a collection leaves behind differs by so much without any attack. */
const HEAP_NOISE_BYTES = 4 * 1_048_576
let scene: HostileScene

beforeAll(async () => {
  scene = await createHostileScene()
})
afterAll(() => scene?.close())

test.each(ATTACKS)('%s', async (attack) => {
  const report = await scene.attack(attack, 4, 60)
  expect(report.attempts).toBeGreaterThan(0)
  expect(report.attacked).toBeGreaterThan(0)
  expect(report.grownBytes).toBeLessThan(Math.max(HEAP_NOISE_BYTES, 2 * report.bytes))
  // The honest session is all that is left.
  await eventually(async () => {
    expect(await scene.state()).toMatchObject({
      ...{ relayCircuits: 0, computeCircuits: 1, halfOpenCircuits: 0, queuedBytes: 0, sessions: 1 },
    })
  })
})

test('somebody new is served as if nothing had been', () => scene.openAnother())
