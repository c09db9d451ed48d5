import type { CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine, printNotice } from '../output.ts'

export const webCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'web',
  describe: 'Print the address of the pages of the running node',
  async handler(argv) {
    const { LlmNodeError } = await import('../../base/errors.ts')
    const { pagesUrl, readRunFile } = await import('../../node/run-file.ts')
    const run = await readRunFile(homeOf(argv))
    if (run === undefined) {
      throw new LlmNodeError('NOT_RUNNING', 'No node runs on this home.', {
        hint: 'Start it with llm-node start, or set it up on a page: llm-node setup --web',
      })
    }
    const url = pagesUrl(run)
    if (argv.json) return printJson('web', { url })
    printLine(url)
    printNotice('The address is for you alone: whoever has it can command this node.')
  },
}
