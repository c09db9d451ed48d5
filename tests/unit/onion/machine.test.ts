import fc from 'fast-check'
import { it } from 'vitest'
import { machineCommands, runMachine } from './machine-commands.ts'

/** tests/long runs the same commands ten thousand times. */
it('whatever happens, in whatever order: no nonce twice, no stranger known, nothing left', {
  timeout: 120_000,
}, async () => {
  await fc.assert(fc.asyncProperty(machineCommands(), fc.integer({ min: 1, max: 2 ** 31 - 1 }), runMachine), {
    numRuns: 100,
    seed: 6,
    endOnFailure: false,
  })
})
