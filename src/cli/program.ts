import yargs, { type Argv, type CommandModule } from 'yargs'
import { askCommand } from './commands/ask.ts'
import { benchCommand } from './commands/bench.ts'
import { bootstrapCommand } from './commands/bootstrap.ts'
import { chatCommand } from './commands/chat.ts'
import { configCommand } from './commands/config.ts'
import { contactsCommand } from './commands/contacts.ts'
import { coverageCommand } from './commands/coverage.ts'
import { demoCommand } from './commands/demo.ts'
import { doctorCommand } from './commands/doctor.ts'
import { drainCommand } from './commands/drain.ts'
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
import { addGlobalOptions, type GlobalArguments } from './context.ts'
import { exampleOf } from './examples.ts'

const commands = [
  demoCommand,
  setupCommand,
  planCommand,
  startCommand,
  stopCommand,
  drainCommand,
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

/** The first word of every command. */
export const verbs: readonly string[] = commands.map(({ command }) => String(command).split(' ')[0] ?? '')

const EPILOGUE = `Exit codes: 0 done, 1 a fault of this program, 2 wrong input, 3 this machine or home, 4 the model files, 5 the
swarm, 130 stopped. "llm-node doctor" finds what is wrong; "man llm-node" has all of this on one page.`

/** All verbs with their flags, ready to parse `args` or to tell their help. `width`: columns of the help. */
export function createProgram(args: readonly string[], { width }: { readonly width: number }): Argv<GlobalArguments> {
  return (
    addGlobalOptions(yargs([...args]))
      .scriptName('llm-node')
      .usage('$0 <verb>\n\nRun a language model together with other people, without a server.')
      // Each reads its own flags, which the type of the list cannot say.
      .command(commands.map(withExample) as unknown as CommandModule<GlobalArguments, GlobalArguments>[])
      .completion('completion', 'Print a script for shell completion')
      .epilogue(EPILOGUE)
      .demandCommand(1, 'Say what to do, for example: llm-node demo')
      .recommendCommands()
      .strict()
      .version(false)
      .help()
      .wrap(width)
  )
}

function withExample(command: Pick<CommandModule, 'command'> & { readonly builder?: unknown }) {
  const { builder } = command
  const example = exampleOf(String(command.command).split(' ')[0] ?? '')
  return {
    ...command,
    builder: (yargs: Argv) => (typeof builder === 'function' ? builder(yargs) : yargs).example(...example).epilogue(''),
  }
}
