import type { Argv, CommandModule } from 'yargs'
import type { GlobalArguments } from '../context.ts'
import { printJson, printLine } from '../output.ts'

interface TokenizeArguments extends GlobalArguments {
  model: string
  chat?: string | undefined
}

export const tokenizeCommand: CommandModule<GlobalArguments, TokenizeArguments> = {
  command: 'tokenize',
  describe: 'Token ids of the lines on stdin, or of a chat',
  builder: (yargs): Argv<TokenizeArguments> =>
    yargs
      .option('model', { type: 'string', demandOption: true, describe: 'Folder with tokenizer.json' })
      .option('chat', { type: 'string', describe: 'File with an array of messages' }),
  async handler(argv) {
    const { runTokenize } = await import('../tokenize.ts')
    const { items } = await runTokenize({ model: argv.model, chat: argv.chat, input: process.stdin })
    if (argv.json) return printJson('tokenize', { items })
    for (const item of items) printLine(item.ids.join(' '))
  },
}
