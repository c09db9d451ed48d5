/** Chains that only wait, for a chat's next turn or for a failure: when their circuit ends, what they hold here is freed. */
import { expect, test } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import { type Chain, joinChains } from '../../../src/pipeline/chain.ts'
import type { OpenedChain } from '../../../src/pipeline/entry.ts'
import type { HeldChain } from '../../../src/pipeline/held-chain.ts'
import { createIdleChains } from '../../../src/pipeline/idle-chains.ts'
import { createStandby } from '../../../src/pipeline/standby.ts'

/** A leading span held here and a circuit that ends when it is told to. */
function createHeld() {
  const circuit = Promise.withResolvers<LlmNodeError | undefined>()
  const closed: string[] = []
  const part = (name: string, ended: Chain['ended']): Chain => ({
    hops: [],
    maxContext: 100,
    maxRows: 8,
    lifeS: 3_600,
    ended,
    forward: async () => new Float32Array(0),
    async close() {
      closed.push(name)
    },
  })
  const chain = joinChains([part('here', new Promise(() => {})), part('circuit', circuit.promise)], 2)
  const opened = { chain, plan: { longRope: false } } as OpenedChain
  const held: HeldChain = { opened, ids: [1, 2], openedMs: 0 }
  return { held, closed, breakCircuit: () => circuit.resolve(undefined) }
}

test('one for the next turn of a chat', async () => {
  const { held, closed, breakCircuit } = createHeld()
  const idle = createIdleChains()
  idle.put('somebody', held)
  expect(closed).toEqual([])
  breakCircuit()
  await expect.poll(() => closed).toEqual(['here', 'circuit'])
  expect(idle.size).toBe(0)
})

test('a spare one', async () => {
  const { held, closed, breakCircuit } = createHeld()
  let ms = 0
  const standby = createStandby({
    ends: { embed: async () => new Float32Array(0) },
    attempts: { beside: async () => held.opened, besideInHaste: async () => undefined, leaving: () => new Set() },
    clock: { nowMs: () => ms, monotonicMs: () => ms },
  })
  standby.tend(createHeld().held)
  ms = 20_000
  standby.tend(createHeld().held)
  expect(await standby.second(AbortSignal.timeout(5_000))).toMatchObject({ opened: held.opened })
  // Given away it is somebody else's; the next one is not.
  breakCircuit()
  await held.opened.chain.ended
  expect(closed).toEqual([])
  const next = createHeld()
  const again = createStandby({
    ends: { embed: async () => new Float32Array(0) },
    attempts: { beside: async () => next.held.opened, besideInHaste: async () => undefined, leaving: () => new Set() },
    clock: { nowMs: () => ms, monotonicMs: () => ms },
  })
  again.tend(createHeld().held)
  ms = 40_000
  again.tend(createHeld().held)
  await Promise.resolve()
  next.breakCircuit()
  await expect.poll(() => next.closed).toEqual(['here', 'circuit'])
})
