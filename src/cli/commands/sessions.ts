import type { CommandModule } from 'yargs'
import type { GenerationBody, SessionBody, StatusBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, shortAddress } from '../output.ts'

export const sessionsCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'sessions',
  describe: 'Answers that this node asks for, with the profile in force, and what it holds for others',
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const [{ generations }, { sessions }, { relay }] = await Promise.all([
      admin.get<{ generations: GenerationBody[] }>('/api/generations'),
      admin.get<{ sessions: SessionBody[] }>('/api/sessions'),
      admin.get<StatusBody>('/api/status'),
    ])
    if (argv.json) return printJson('sessions', { generations, sessions, relay })
    printLine(generations.length === 0 ? 'No answer was asked for through this node.' : answersTable(generations))
    printLine()
    printLine(sessions.length === 0 ? 'No session is held for others.' : sessionsTable(sessions))
    printLine()
    printLine(
      relay.on
        ? `Circuits of others that pass through: ${relay.circuits} of at most ${relay.most}.`
        : 'No circuit of others passes through here: network.relay is off.',
    )
  },
}

function answersTable(generations: readonly GenerationBody[]): string {
  const rows = generations.map(({ state, profile, model, tokens, tokensPerSecond, failovers, hops }) => [
    state,
    profile ?? '-',
    model,
    `${tokens}`,
    tokensPerSecond === null ? '-' : tokensPerSecond.toFixed(1),
    `${failovers}`,
    hops
      .map(({ span, address }) => `${formatSpan(span)} ${address === null ? 'here' : shortAddress(address)}`)
      .join(', '),
  ])
  return formatTable(['answer', 'profile', 'model', 'tokens', 'per second', 'moved', 'layers'], rows)
}

function sessionsTable(sessions: readonly SessionBody[]): string {
  const rows = sessions.map(({ modelId, span, length, maxContext, decodeMs }) => [
    `${modelId.slice(0, 12)}…`,
    formatSpan(span),
    `${length}/${maxContext}`,
    decodeMs === null ? '-' : `${decodeMs.toFixed(1)} ms`,
  ])
  return formatTable(['for others', 'layers', 'context', 'a token'], rows)
}
