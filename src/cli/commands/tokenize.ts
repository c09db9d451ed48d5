import type { Argv, CommandModule } from 'yargs'
import type { GlobalArguments } from '../context.ts'

interface TokenizeArguments extends GlobalArguments {
  model: string
  chat?: string | undefined
  special: boolean
}

export const tokenizeCommand: CommandModule<GlobalArguments, TokenizeArguments> = {
  command: 'tokenize',
  describe: 'Token ids of the lines on stdin, or of a chat',
  builder: (yargs): Argv<TokenizeArguments> =>
    yargs
      .option('model', { type: 'string', demandOption: true, describe: 'Folder with tokenizer.json' })
      .option('chat', { type: 'string', describe: 'File with an array of messages' })
      .option('special', { type: 'boolean', default: false, describe: 'Add what the model puts around a text' }),
  async handler(argv) {
    const { runTokenize } = await import('../tokenize.ts')
    const { model, chat, special, json } = argv
    await runTokenize({ model, chat, special, json, stdin: process.stdin })
  },
}
