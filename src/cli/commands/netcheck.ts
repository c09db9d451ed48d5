import type { Argv, CommandModule } from 'yargs'
import type { NetcheckBody } from '../../api/types.ts'
import { findAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine, printNotice } from '../output.ts'
import { addSwarmOptions, type SwarmArguments, swarmOverrides } from '../swarm-options.ts'

type NetcheckArguments = GlobalArguments & SwarmArguments

export const netcheckCommand: CommandModule<GlobalArguments, NetcheckArguments> = {
  command: 'netcheck',
  describe: 'How others reach this node, and what would make it better',
  builder: (yargs): Argv<NetcheckArguments> => addSwarmOptions(yargs),
  async handler(argv) {
    const checked = await check(argv)
    if (argv.json) return printJson('netcheck', { ...checked })
    const { reachability, addresses, findings, servers } = checked
    printLine(`${reachability.ok ? 'ok  ' : '!   '}${reachability.word}: ${reachability.reason}`)
    if (reachability.next !== null) printLine(`    ${reachability.next}`)
    for (const { name, ok, text, next } of findings) {
      printLine(`${ok === null ? '-   ' : ok ? 'ok  ' : '!   '}${name.padEnd(14)} ${text}`)
      if (next !== null) printLine(`${' '.repeat(19)}${next}`)
    }
    for (const { peerId, role, transport, rttMs } of servers) {
      const way = rttMs === null ? 'does not answer' : `${rttMs.toFixed(1)} ms, ${transport}`
      printLine(`    ${role.padEnd(14)} …${peerId.slice(-8)} ${way}`)
    }
    for (const address of addresses) printLine(`    address        ${address}`)
  },
}

/** Through the running node, which knows more; otherwise by taking part for some seconds. */
async function check(argv: NetcheckArguments): Promise<NetcheckBody> {
  const home = homeOf(argv)
  const signal = interruptSignal()
  const admin = await findAdmin(home)
  if (admin !== undefined) return await admin.get<NetcheckBody>('/api/netcheck')
  const [{ loadConfig }, { netcheckVisit }, { silentLogger }] = await Promise.all([
    import('../../node/home.ts'),
    import('../../node/netcheck-visit.ts'),
    import('../../base/logger.ts'),
  ])
  const config = await loadConfig(home, { env: process.env, overrides: swarmOverrides(argv) })
  if (!argv.json) printNotice('No node runs on this home: taking part for a few seconds …')
  return await netcheckVisit(home, config, { signal, logger: silentLogger })
}
