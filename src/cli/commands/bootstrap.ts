import type { Argv, CommandModule } from 'yargs'
import { addNodeOptions, type GlobalArguments, homeOf, type NodeArguments, overridesOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
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

interface RunArguments extends GlobalArguments, NodeArguments {
  httpHost?: string | undefined
  httpPort?: number | undefined
}

const run: CommandModule<GlobalArguments, RunArguments> = {
  command: 'run',
  describe: 'Run a node without layers, through which others meet',
  builder: (yargs): Argv<RunArguments> =>
    addNodeOptions(yargs)
      .option('http-host', { type: 'string', describe: 'Where /healthz and /metrics listen (default: 127.0.0.1)' })
      .option('http-port', { type: 'number', describe: 'Their port (default: 5562; 0: any)' }),
  async handler(argv) {
    const { runBootstrap } = await import('../../node/bootstrap.ts')
    const http = { host: argv.httpHost ?? '127.0.0.1', port: argv.httpPort ?? 5562 }
    await runBootstrap(
      { home: homeOf(argv), overrides: overridesOf(argv), env: process.env, http },
      {
        signal: interruptSignal(),
        onReady(state) {
          if (argv.json) return printJson('bootstrap-run', { ...state })
          printLine(`address   ${state.address}`)
          for (const address of state.listening) printLine(`listening ${address}`)
          printLine(`health    ${state.url}/healthz, ${state.url}/metrics`)
          printLine(`invite    ${state.invite ?? 'private network: llm-node invite of a member shows it'}`)
        },
      },
    )
  },
}

export const bootstrapCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'bootstrap',
  describe: 'Addresses where nodes meet',
  builder: (yargs) =>
    yargs
      .command(run)
      .command(add)
      .command(remove)
      .command(list)
      .demandCommand(1, 'Say what to do: run, add, rm or ls.'),
  handler: () => {},
}
