import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { machineCommands, runMachine } from '../unit/onion/machine-commands.ts'

const BLOCKS = 40
const RUNS = 250
/** What has passed is not run again after an interruption; not in git. */
const PROGRESS = new URL('../../.fuzz/onion-machine.json', import.meta.url)

function passedBlocks(): number {
  if (!existsSync(PROGRESS)) return 0
  const { passed } = JSON.parse(readFileSync(PROGRESS, 'utf8')) as { passed: number }
  return passed < BLOCKS ? passed : 0
}

/** Block n has the seed n + 1: one that fails can be run again alone. */
it('10,000 runs of whatever may happen to circuits', async () => {
  for (let block = passedBlocks(); block < BLOCKS; block++) {
    await fc.assert(fc.asyncProperty(machineCommands(), fc.integer({ min: 1, max: 2 ** 31 - 1 }), runMachine), {
      numRuns: RUNS,
      seed: block + 1,
    })
    mkdirSync(new URL('.', PROGRESS), { recursive: true })
    writeFileSync(PROGRESS, `${JSON.stringify({ passed: block + 1 })}\n`)
    process.stdout.write(`${(block + 1) * RUNS} of ${BLOCKS * RUNS} runs\n`)
  }
  expect(BLOCKS * RUNS).toBe(10_000)
})
