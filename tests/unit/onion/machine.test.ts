import fc from 'fast-check'
import { it } from 'vitest'
import { checkAllGone, createMachine, machineCommands } from './machine.ts'

/** tests/long runs the same ten thousand times. */
it('whatever happens, in whatever order: no nonce twice, no stranger known, nothing left', async () => {
  await fc.assert(
    fc.asyncProperty(machineCommands(), fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (commands, seed) => {
      const machine = createMachine(seed)
      await fc.asyncModelRun(() => ({ model: {}, real: machine }), commands)
      await checkAllGone(machine)
    }),
    { numRuns: 150, seed: 6, endOnFailure: false },
  )
})
