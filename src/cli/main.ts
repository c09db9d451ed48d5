import yargs, { type CommandModule } from 'yargs'
import { hideBin } from 'yargs/helpers'
import { LlmNodeError } from '../base/errors.ts'
import { askCommand } from './commands/ask.ts'
import { benchCommand } from './commands/bench.ts'
import { bootstrapCommand } from './commands/bootstrap.ts'
import { chatCommand } from './commands/chat.ts'
import { configCommand } from './commands/config.ts'
import { contactsCommand } from './commands/contacts.ts'
import { coverageCommand } from './commands/coverage.ts'
import { demoCommand } from './commands/demo.ts'
import { doctorCommand } from './commands/doctor.ts'
import { idCommand } from './commands/id.ts'
import { inviteCommand, joinCommand, networkCommand } from './commands/join.ts'
import { keysCommand } from './commands/keys.ts'
import { logitsCommand } from './commands/logits.ts'
import { logsCommand } from './commands/logs.ts'
import { modelsCommand } from './commands/models.ts'
import { netcheckCommand } from './commands/netcheck.ts'
import { pauseCommand, resumeCommand } from './commands/pause.ts'
import { peersCommand } from './commands/peers.ts'
import { pingCommand } from './commands/ping.ts'
import { planCommand } from './commands/plan.ts'
import { sessionsCommand } from './commands/sessions.ts'
import { setupCommand } from './commands/setup.ts'
import { startCommand } from './commands/start.ts'
import { statusCommand } from './commands/status.ts'
import { stopCommand } from './commands/stop.ts'
import { tokenizeCommand } from './commands/tokenize.ts'
import { versionCommand } from './commands/version.ts'
import { webCommand } from './commands/web.ts'
import { keepCompiledCode } from './compile-cache.ts'
import { addGlobalOptions, type GlobalArguments } from './context.ts'
import { reportError } from './output.ts'

// Before the verbs load what they need.
keepCompiledCode(process.env)
const args = hideBin(process.argv)
const commands = [
  demoCommand,
  setupCommand,
  planCommand,
  startCommand,
  stopCommand,
  pauseCommand,
  resumeCommand,
  statusCommand,
  peersCommand,
  coverageCommand,
  sessionsCommand,
  doctorCommand,
  benchCommand,
  modelsCommand,
  configCommand,
  logsCommand,
  askCommand,
  chatCommand,
  idCommand,
  inviteCommand,
  joinCommand,
  networkCommand,
  bootstrapCommand,
  contactsCommand,
  pingCommand,
  netcheckCommand,
  keysCommand,
  logitsCommand,
  tokenizeCommand,
  versionCommand,
  webCommand,
]
const verbs = commands.map(({ command }) => String(command).split(' ')[0])
const verb = args.find((arg) => verbs.includes(arg))

// `llm-node peers | head -1`: whoever reads has enough, which is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

/** What yargs says, as a sentence on one line. */
function usageError(message: string): LlmNodeError {
  const told = message.replaceAll(/\s*\n\s*/g, ' ').replace(/\.?$/, '.')
  const sentence = told.startsWith('Did you mean')
    ? `There is no verb "${args.find((arg) => !arg.startsWith('-'))}". ${message}`
    : told.replace(/^Not enough non-option arguments.*/, 'Something is missing.')
  const help = verb === undefined ? 'llm-node --help' : `llm-node ${verb} --help`
  return new LlmNodeError('BAD_INPUT', sentence, { hint: `${help} says what there is.` })
}

try {
  await addGlobalOptions(yargs(args))
    .scriptName('llm-node')
    .usage('$0 <verb>\n\nRun a language model together with other people, without a server.')
    // Each reads its own flags, which the type of the list cannot say.
    .command(commands as unknown as CommandModule<GlobalArguments, GlobalArguments>[])
    .completion('completion', 'Print a script for shell completion')
    .demandCommand(1, 'Say what to do, for example: llm-node demo')
    .recommendCommands()
    .strict()
    .version(false)
    .help()
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .fail((message, error) => {
      throw error ?? usageError(message)
    })
    .parseAsync()
} catch (error) {
  process.exitCode = reportError(error, {
    debug: args.includes('--debug'),
    json: args.includes('--json'),
    verb: verb ?? 'error',
  })
}
