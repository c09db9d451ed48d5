import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { LlmNodeError } from '../base/errors.ts'
import { askCommand } from './commands/ask.ts'
import { coverageCommand } from './commands/coverage.ts'
import { demoCommand } from './commands/demo.ts'
import { idCommand } from './commands/id.ts'
import { logitsCommand } from './commands/logits.ts'
import { peersCommand } from './commands/peers.ts'
import { setupCommand } from './commands/setup.ts'
import { startCommand } from './commands/start.ts'
import { statusCommand } from './commands/status.ts'
import { stopCommand } from './commands/stop.ts'
import { tokenizeCommand } from './commands/tokenize.ts'
import { versionCommand } from './commands/version.ts'
import { addGlobalOptions } from './context.ts'
import { reportError } from './output.ts'

const args = hideBin(process.argv)

try {
  await addGlobalOptions(yargs(args))
    .scriptName('llm-node')
    .usage('$0 <verb>\n\nRun a language model together with other people, without a server.')
    .command(demoCommand)
    .command(setupCommand)
    .command(startCommand)
    .command(stopCommand)
    .command(statusCommand)
    .command(peersCommand)
    .command(coverageCommand)
    .command(askCommand)
    .command(idCommand)
    .command(logitsCommand)
    .command(tokenizeCommand)
    .command(versionCommand)
    .demandCommand(1, 'Say what to do, for example: llm-node demo')
    .recommendCommands()
    .strict()
    .version(false)
    .help()
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .fail((message, error) => {
      throw error ?? new LlmNodeError('BAD_INPUT', message, { hint: 'llm-node --help lists the verbs and flags.' })
    })
    .parseAsync()
} catch (error) {
  process.exitCode = reportError(error, {
    debug: args.includes('--debug'),
    json: args.includes('--json'),
    verb: args.find((arg) => !arg.startsWith('-')) ?? 'error',
  })
}
