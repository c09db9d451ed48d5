import type { Argv, CommandModule } from 'yargs'
import { addNodeOptions, type GlobalArguments, homeOf, type NodeArguments, overridesOf } from '../context.ts'
import { interruptSignal, interruptWithStdin } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'

interface StartArguments extends GlobalArguments, NodeArguments {
  tied: boolean
}

export const startCommand: CommandModule<GlobalArguments, StartArguments> = {
  command: 'start',
  describe: 'Run the node: serve its layers and take part in the network',
  builder: (yargs): Argv<StartArguments> =>
    addNodeOptions(yargs).option('tied', { type: 'boolean', default: false, hidden: true }),
  async handler(argv) {
    const { serve } = await import('../../node/serve.ts')
    const signal = interruptSignal()
    if (argv.tied) interruptWithStdin()
    await serve(
      { home: homeOf(argv), overrides: overridesOf(argv), env: process.env },
      {
        signal,
        onReady(state) {
          if (argv.json) return printJson('start', { ...state })
          printLine(`address   ${state.address}`)
          for (const address of state.listening) printLine(`listening ${address}`)
          printLine(`api       ${state.apiUrl}`)
          printLine(
            state.serving.length === 0
              ? 'serving   nothing: this node only asks'
              : `serving   ${state.serving.join(', ')}`,
          )
          printLine('Stop with Ctrl-C.')
        },
      },
    )
    if (!argv.json) printLine('Stopped.')
  },
}
