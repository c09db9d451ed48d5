import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine } from '../output.ts'

type AddrArguments = GlobalArguments & { addr: string }

const addrOption = (yargs: Argv<GlobalArguments>): Argv<AddrArguments> =>
  yargs.positional('addr', { type: 'string', demandOption: true, describe: '/ip4/…/tcp/…/p2p/PEERID' })

const add: CommandModule<GlobalArguments, AddrArguments> = {
  command: 'add <addr>',
  describe: 'Meet others through this address, from the next start on',
  builder: addrOption,
  async handler(argv) {
    const { addBootstrap } = await import('../../node/joining.ts')
    const added = await addBootstrap(homeOf(argv), argv.addr)
    if (argv.json) return printJson('bootstrap-add', { address: argv.addr, added })
    printLine(added ? `Added: ${argv.addr}` : 'It was already there.')
  },
}

const remove: CommandModule<GlobalArguments, AddrArguments> = {
  command: 'rm <addr>',
  describe: 'No longer meet through this address',
  builder: addrOption,
  async handler(argv) {
    const { removeBootstrap } = await import('../../node/joining.ts')
    await removeBootstrap(homeOf(argv), argv.addr)
    if (argv.json) return printJson('bootstrap-rm', { removed: argv.addr })
    printLine(`Removed: ${argv.addr}`)
  },
}

const list: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'ls',
  describe: 'The addresses through which this node meets others',
  async handler(argv) {
    const { listBootstrap } = await import('../../node/joining.ts')
    const addresses = await listBootstrap(homeOf(argv))
    if (argv.json) return printJson('bootstrap-ls', { addresses })
    if (addresses.length === 0) return printLine('None. On one local network nodes meet by themselves.')
    for (const address of addresses) printLine(address)
  },
}

export const bootstrapCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'bootstrap',
  describe: 'Addresses where nodes meet',
  builder: (yargs) =>
    yargs.command(add).command(remove).command(list).demandCommand(1, 'Say what to do: add, rm or ls.'),
  handler: () => {},
}
