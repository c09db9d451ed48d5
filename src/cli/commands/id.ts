import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine } from '../output.ts'

interface IdArguments extends GlobalArguments {
  address?: string | undefined
  qr: boolean
}

export const idCommand: CommandModule<GlobalArguments, IdArguments> = {
  command: 'id [address]',
  describe: 'This node’s address and safety number, or check another one',
  builder: (yargs): Argv<IdArguments> =>
    yargs
      .positional('address', { type: 'string', describe: 'An .llm address to check' })
      .option('qr', { type: 'boolean', default: false, describe: 'Also as a QR code, for a phone' }),
  async handler(argv) {
    const { describeIdentity } = await import('../../node/identity.ts')
    const identity = await describeIdentity(homeOf(argv), argv.address)
    if (argv.json) return printJson('id', { ...identity })
    printLine(`address        ${identity.address}`)
    printLine(`safety number  ${identity.safetyNumber}`)
    if (identity.peerId !== null) printLine(`peer id        ${identity.peerId}`)
    if (argv.qr) printLine(`\n${(await import('../qr.ts')).qrText(`llm://${identity.address}`)}`)
  },
}
