import type { Argv, CommandModule } from 'yargs'
import type { PingBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { findAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'
import { addSwarmOptions, type SwarmArguments, swarmOverrides } from '../swarm-options.ts'

interface PingArguments extends GlobalArguments, SwarmArguments {
  address: string
}

/** A node that comes for the ping alone has to meet others first. */
const VISIT_MS = 10_000

export const pingCommand: CommandModule<GlobalArguments, PingArguments> = {
  command: 'ping <address>',
  describe: 'Reach a node: the way there, round trips, what it serves',
  builder: (yargs): Argv<PingArguments> =>
    addSwarmOptions(yargs).positional('address', {
      type: 'string',
      demandOption: true,
      describe: 'ADDRESS.llm, llm://ADDRESS?a=MULTIADDR or a petname',
    }),
  async handler(argv) {
    const answer = await ping(argv)
    if (argv.json) return printJson('ping', { ...answer })
    const best = Math.min(...answer.rttMs)
    printLine(`address   ${answer.address}`)
    printLine(
      `path      ${answer.path === 'direct' ? `direct, ${answer.transport}` : 'through a relay'}: ${answer.addr}`,
    )
    printLine(`rtt       ${best.toFixed(1)} ms (${answer.rttMs.map((ms) => ms.toFixed(1)).join(', ')})`)
    const serving = answer.serving.map(
      ({ modelId, recipe, span }) => `${formatSpan(span)} of ${modelId.slice(0, 12)} ${recipe}`,
    )
    printLine(`serves    ${serving.join(', ') || 'nothing that it has told'}`)
    if (answer.version !== null) printLine(`version   ${answer.version}, ${answer.state}`)
  },
}

async function ping(argv: PingArguments): Promise<PingBody> {
  const home = homeOf(argv)
  const { parseTarget } = await import('../../node/contacts.ts')
  const hint = await parseTarget(home, argv.address)
  const signal = interruptSignal()
  const admin = await findAdmin(home)
  if (admin !== undefined) return await admin.post<PingBody>('/api/ping', { target: hint.uri }, signal)
  const [{ loadConfig }, { visitSwarm }, { pingAddress }, { silentLogger }] = await Promise.all([
    import('../../node/home.ts'),
    import('../../node/visit.ts'),
    import('../../node/ping.ts'),
    import('../../base/logger.ts'),
  ])
  const config = await loadConfig(home, { env: process.env, overrides: swarmOverrides(argv) })
  return await visitSwarm(home, config, { logger: silentLogger }, (parts) =>
    pingAddress(parts, hint, { signal, withinMs: VISIT_MS }),
  )
}
