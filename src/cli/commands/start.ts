import type { Argv, CommandModule } from 'yargs'
import type { Home } from '../../node/home.ts'
import { pagesUrl, readRunFile } from '../../node/run-file.ts'
import type { ReadyState } from '../../node/serve.ts'
import { addNodeOptions, type GlobalArguments, homeOf, type NodeArguments, overridesOf } from '../context.ts'
import { interruptSignal, interruptWithStdin } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'

interface StartArguments extends GlobalArguments, NodeArguments {
  tied: boolean
  testFaults?: string | undefined
  verify: boolean
  detach: boolean
  printSystemd: boolean
}

export const startCommand: CommandModule<GlobalArguments, StartArguments> = {
  command: 'start',
  describe: 'Run the node: serve its layers and take part in the network',
  builder: (yargs): Argv<StartArguments> =>
    addNodeOptions(yargs)
      .option('detach', { type: 'boolean', default: false, describe: 'Go on in the background; see llm-node logs' })
      .option('print-systemd', { type: 'boolean', default: false, describe: 'Print a unit for systemctl --user' })
      .option('verify', {
        type: 'boolean',
        default: true,
        describe: 'Read the model files first and fetch again what is damaged (--no-verify: do not)',
      })
      .option('test-faults', { type: 'string', hidden: true })
      .option('tied', { type: 'boolean', default: false, hidden: true }) as unknown as Argv<StartArguments>,
  async handler(argv) {
    if (argv.printSystemd) {
      const { systemdUnit } = await import('../../node/detach.ts')
      return void process.stdout.write(systemdUnit(repeated()))
    }
    if (argv.detach) {
      const { startDetached } = await import('../../node/detach.ts')
      const state = await startDetached(homeOf(argv), repeated())
      if (argv.json) return printJson('start', { ...state })
      printState(state, await pagesOf(homeOf(argv), state))
      return printLine(`Process ${state.pid} goes on in the background. Stop it with: llm-node stop`)
    }
    const { serve } = await import('../../node/serve.ts')
    const signal = interruptSignal()
    if (argv.tied) interruptWithStdin()
    await serve(
      { home: homeOf(argv), overrides: overridesOf(argv), env: process.env, faultsFile: argv.testFaults },
      {
        signal,
        verify: argv.verify,
        async onReady(state) {
          if (argv.json) return printJson('start', { ...state })
          printState(state, await pagesOf(homeOf(argv), state))
          printLine(`invite    ${state.invite ?? 'private network: llm-node invite shows it'}`)
          printLine('Stop with Ctrl-C.')
        },
      },
    )
    if (!argv.json) printLine('Stopped.')
  },
}

/** On a terminal with the token; in a journal, which others may read, without. */
async function pagesOf(home: Home, { apiUrl }: ReadyState): Promise<string> {
  const run = process.stdout.isTTY === true ? await readRunFile(home) : undefined
  return run === undefined ? `${apiUrl} (its whole address: llm-node web)` : pagesUrl(run)
}

function printState(state: ReadyState, pages: string): void {
  printLine(`address   ${state.address}`)
  for (const address of state.listening) printLine(`listening ${address}`)
  printLine(`api       ${state.apiUrl}`)
  printLine(`pages     ${pages}`)
  printLine(
    state.serving.length === 0 ? 'serving   nothing: this node only asks' : `serving   ${state.serving.join(', ')}`,
  )
}

/** The flags of this command line, for a process that shall do the same. */
function repeated(): string[] {
  const args = process.argv.slice(2)
  return args
    .slice(args.indexOf('start') + 1)
    .concat(args.slice(0, args.indexOf('start')))
    .filter((arg) => !['--detach', '--print-systemd', '--json'].includes(arg))
}
