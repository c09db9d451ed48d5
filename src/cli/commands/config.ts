import type { Argv, CommandModule } from 'yargs'
import { LlmNodeError } from '../../base/errors.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine } from '../output.ts'

interface ConfigArguments extends GlobalArguments {
  action: string
  key?: string | undefined
  value?: string | undefined
}

export const configCommand: CommandModule<GlobalArguments, ConfigArguments> = {
  command: 'config <action> [key] [value]',
  describe: 'Show or change settings: get, set, edit, path',
  builder: (yargs): Argv<ConfigArguments> =>
    yargs
      .positional('action', { type: 'string', choices: ['get', 'set', 'edit', 'path'], demandOption: true })
      .positional('key', { type: 'string', describe: 'A setting, for example network.port' })
      .positional('value', { type: 'string', describe: 'Its new value, as JSON or a plain word' })
      .parserConfiguration({ 'parse-positional-numbers': false }),
  async handler(argv) {
    const home = homeOf(argv)
    if (argv.action === 'path') {
      if (argv.json) return printJson('config', { path: home.configFile })
      return printLine(home.configFile)
    }
    if (argv.action === 'edit') {
      const { editConfig } = await import('../../node/config-editor.ts')
      const changed = await editConfig(home, process.env)
      if (argv.json) return printJson('config', { path: home.configFile, changed })
      return printLine(
        changed
          ? `Saved to ${home.configFile}. A running node takes it up when it starts again.`
          : 'Nothing was changed.',
      )
    }
    const { getSetting, setSetting } = await import('../../node/config-edit.ts')
    const { key, value } = argv
    if (argv.action === 'set' && (key === undefined || value === undefined)) {
      throw new LlmNodeError('BAD_INPUT', 'Say which setting and its value.', {
        hint: 'For example: llm-node config set network.port 5600',
      })
    }
    const found = argv.action === 'set' ? await setSetting(home, key ?? '', String(value)) : await getSetting(home, key)
    if (argv.json) return printJson('config', { key: key ?? null, value: found })
    printLine(typeof found === 'string' ? found : JSON.stringify(found, null, 2))
  },
}
