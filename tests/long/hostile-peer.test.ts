/** The attacks of tests/integration/hostile-peer.test.ts at length, with what they cost the honest session. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../e2e/swarm.ts'
import { ATTACKS, type AttackReport, createHostileScene, type HostileScene } from '../helpers/hostile/hostile.ts'

const HEAP_NOISE_BYTES = 4 * 1_048_576
const CONNECTS = 10_000
let scene: HostileScene
const reports: AttackReport[] = []

beforeAll(async () => {
  scene = await createHostileScene()
})
afterAll(async () => {
  await scene?.close()
  for (const { attack, attempts, bytes, quiet, attacked, grownBytes } of reports) {
    const cells = [attempts, bytes, quiet.toFixed(0), attacked.toFixed(0), (attacked / quiet).toFixed(2), grownBytes]
    process.stderr.write(`${attack.padEnd(16)}${cells.map((cell) => String(cell).padStart(12)).join('')}\n`)
  }
})

test.each(ATTACKS)('%s', async (attack) => {
  let attempts = 0
  do {
    const report = await scene.attack(attack, 40, 250)
    reports.push(report)
    attempts += report.attempts
    expect(report.attacked / report.quiet).toBeGreaterThanOrEqual(0.5)
    expect(report.grownBytes).toBeLessThan(Math.max(HEAP_NOISE_BYTES, 2 * report.bytes))
  } while (attack === 'connects' && attempts < CONNECTS)
  await eventually(async () => {
    expect(await scene.state()).toMatchObject({
      ...{ relayCircuits: 0, computeCircuits: 1, halfOpenCircuits: 0, queuedBytes: 0, sessions: 1 },
    })
  }, 15_000)
})

test('somebody new is served as if nothing had been', () => scene.openAnother())
