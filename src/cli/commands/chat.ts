import { createInterface } from 'node:readline'
import type { Argv, CommandModule } from 'yargs'
import type { AskRequest } from '../../api/types.ts'
import { isLlmNodeError } from '../../base/errors.ts'
import { type AdminClient, connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printLine, printNotice, reportError } from '../output.ts'
import { readAnswer } from './ask.ts'

interface ChatArguments extends GlobalArguments {
  model?: string | undefined
  system?: string | undefined
  temperature?: number | undefined
  profile?: AskRequest['profile']
}

type Messages = { role: 'system' | 'user' | 'assistant'; content: string }[]

export const chatCommand: CommandModule<GlobalArguments, ChatArguments> = {
  command: 'chat',
  describe: 'Talk with the model through the running node, turn by turn',
  builder: (yargs): Argv<ChatArguments> =>
    yargs
      .option('model', { type: 'string', describe: 'Which model, when the node holds several' })
      .option('system', { type: 'string', describe: 'System message' })
      .option('temperature', { type: 'number', describe: '0: always the most likely token' })
      .option('profile', {
        choices: ['auto', 'direct', 'guarded', 'trusted', 'local-only'] as const,
        describe: 'Who may see what: guarded hides who asks, trusted and local-only also what',
      }),
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const opening: Messages = argv.system === undefined ? [] : [{ role: 'system', content: argv.system }]
    let messages = [...opening]
    let answering: AbortController | undefined
    const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
    let open = true
    // With a pipe, the last lines are read after its end.
    lines.on('close', () => {
      open = false
    })
    const prompt = () => {
      if (open) lines.prompt()
    }
    lines.on('SIGINT', () => (answering === undefined ? lines.close() : answering.abort()))
    printNotice('Ctrl-C stops an answer, /new begins anew, Ctrl-D ends.')
    prompt()
    for await (const line of lines) {
      const text = line.trim()
      if (text === '/new') messages = [...opening]
      else if (text !== '') {
        answering = new AbortController()
        messages = await takeTurn(admin, { ...argv, messages, text, signal: answering.signal })
        answering = undefined
      }
      prompt()
    }
    printLine()
  },
}

interface Turn extends Pick<ChatArguments, 'model' | 'temperature' | 'profile' | 'debug'> {
  readonly messages: Messages
  readonly text: string
  readonly signal: AbortSignal
}

/** The chat after this turn; as it was before when there was no answer. */
async function takeTurn(admin: AdminClient, turn: Turn): Promise<Messages> {
  const messages: Messages = [...turn.messages, { role: 'user', content: turn.text }]
  const { model, temperature, profile } = turn
  const request = { messages, model, temperature, profile } as AskRequest
  try {
    const { text } = await readAnswer(admin.ask(request, turn.signal), { quiet: false })
    return [...messages, { role: 'assistant', content: text }]
  } catch (error) {
    if (turn.signal.aborted || isLlmNodeError(error, 'ABORTED')) printNotice('Stopped.')
    else reportError(error, { debug: turn.debug, json: false, verb: 'chat' })
    return turn.messages
  }
}
