/** Faults on purpose exist for tests alone: behind one hidden flag of one verb, and no other way leads to them. */
import { expect, test } from 'vitest'
import { environmentSettings } from '../../../src/base/config.ts'
import { manPage } from '../../../src/cli/man-page.ts'
import { createProgram } from '../../../src/cli/program.ts'

test('no help and no setting tells of them', async () => {
  expect(await manPage()).not.toMatch(/test.{0,2}faults/i)
  expect(environmentSettings.flat().filter((name) => /fault/i.test(name))).toEqual([])
})

test.each([['demo'], ['setup'], ['ask', 'Hi'], ['chat'], ['bench'], ['bootstrap', 'run']])(
  '%s does not take the flag',
  async (...words) => {
    const program = createProgram([...words, '--test-faults', 'file'], { width: 80 })
      .exitProcess(false)
      .fail(false)
    await expect(async () => program.parseAsync()).rejects.toThrow('Unknown arguments: test-faults')
  },
)
