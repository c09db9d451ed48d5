import { expect, test } from 'vitest'
import yargs from 'yargs'
import { parseConfig } from '../../../src/base/config.ts'
import { addNodeOptions, type NodeArguments, overridesOf } from '../../../src/cli/context.ts'

/** The configuration of a node that is started with these flags and has no file. */
async function configOf(...flags: string[]) {
  const argv = (await addNodeOptions(yargs(flags)).parseAsync()) as NodeArguments
  return parseConfig(undefined, overridesOf(argv))
}

test('a node relays, unless it is told not to', async () => {
  expect((await configOf()).network).toMatchObject({ relay: true, relayCircuits: 256, relayMBps: 8 })
  expect((await configOf('--no-relay')).network.relay).toBe(false)
  expect(() => parseConfig({ network: { relayCircuits: 257 } })).toThrow(/relayCircuits/)
  expect(() => parseConfig({ network: { relayMBps: 0 } })).toThrow(/relayMBps/)
})

test('no cadence, unless one is asked for', async () => {
  expect((await configOf()).privacy.cadenceMs).toBeNull()
  expect((await configOf('--cadence', '50')).privacy.cadenceMs).toBe(50)
  await expect(configOf('--cadence', '9')).rejects.toThrow(/cadenceMs/)
})
