import type { CommandModule } from 'yargs'
import { nodeVersion } from '../../node/version.ts'
import type { GlobalArguments } from '../context.ts'
import { printJson, printLine } from '../output.ts'

export const versionCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'version',
  describe: 'Print the version',
  async handler(argv) {
    const version = nodeVersion()
    if (argv.json) printJson('version', { version, node: process.versions.node, platform: process.platform })
    else printLine(`llm-node ${version}`)
  },
}
