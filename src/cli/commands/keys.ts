import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, printNotice } from '../output.ts'

interface AddArguments extends GlobalArguments {
  name: string
  requestsPerMinute?: number | undefined
  tokensPerMinute?: number | undefined
}

const addKey: CommandModule<GlobalArguments, AddArguments> = {
  command: 'add <name>',
  describe: 'Make a key; it is shown this once',
  builder: (yargs): Argv<AddArguments> =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'Who or what will use it' })
      .option('requests-per-minute', { type: 'number', describe: 'At most so many requests a minute' })
      .option('tokens-per-minute', { type: 'number', describe: 'At most so many tokens a minute' }),
  async handler(argv) {
    const { addApiKey } = await import('../../node/api-keys.ts')
    const { requestsPerMinute = null, tokensPerMinute = null } = argv
    const { key, secret } = await addApiKey(homeOf(argv), { name: argv.name, requestsPerMinute, tokensPerMinute })
    if (argv.json) return printJson('keys-add', { ...key, secret })
    printLine(secret)
    printNotice('Keep it: the node keeps only its hash. Use it as: authorization: Bearer KEY')
  },
}

const listKeys: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'ls',
  describe: 'The keys and their limits',
  async handler(argv) {
    const { listApiKeys } = await import('../../node/api-keys.ts')
    const keys = await listApiKeys(homeOf(argv))
    if (argv.json) return printJson('keys-ls', { keys })
    if (keys.length === 0) return printLine('There are no keys. Make one: llm-node keys add NAME')
    const limit = (value: number | null) => (value === null ? 'no limit' : String(value))
    const rows = keys.map((key) => [
      key.name,
      new Date(key.createdMs).toISOString().slice(0, 10),
      limit(key.requestsPerMinute),
      limit(key.tokensPerMinute),
    ])
    printLine(formatTable(['name', 'made', 'requests/min', 'tokens/min'], rows))
  },
}

const removeKey: CommandModule<GlobalArguments, GlobalArguments & { name: string }> = {
  command: 'rm <name>',
  describe: 'Take a key away; a running node refuses it at once',
  builder: (yargs): Argv<GlobalArguments & { name: string }> =>
    yargs.positional('name', { type: 'string', demandOption: true, describe: 'Its name' }),
  async handler(argv) {
    const { removeApiKey } = await import('../../node/api-keys.ts')
    await removeApiKey(homeOf(argv), argv.name)
    if (argv.json) return printJson('keys-rm', { removed: argv.name })
    printLine(`Removed: ${argv.name}`)
  },
}

export const keysCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'keys',
  describe: 'API keys of this node',
  builder: (yargs) =>
    yargs
      .command(addKey)
      .command(listKeys)
      .command(removeKey)
      .demandCommand(1, 'Say what to do with the keys: add, ls or rm.'),
  handler: () => {},
}
