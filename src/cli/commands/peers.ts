import type { Argv, CommandModule } from 'yargs'
import type { PeerBody, UsageBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, shortAddress } from '../output.ts'

interface PeersArguments extends GlobalArguments {
  why: boolean
}

export const peersCommand: CommandModule<GlobalArguments, PeersArguments> = {
  command: 'peers',
  describe: 'The peers that this node knows',
  builder: (yargs): Argv<PeersArguments> =>
    yargs.option('why', { type: 'boolean', default: false, describe: 'Why each of them uses this node, or not' }),
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    if (argv.why) {
      const usage = await admin.get<UsageBody>('/api/usage')
      if (argv.json) printJson('usage', { ...usage })
      else printUsage(usage)
      return
    }
    const { peers } = await admin.get<{ peers: PeerBody[] }>('/api/peers')
    if (argv.json) return printJson('peers', { peers })
    if (peers.length === 0) {
      printLine('No peers yet. On one local network nodes meet by themselves; elsewhere give --bootstrap ADDRESS.')
      return
    }
    const rows = peers.map((peer) => [
      shortAddress(peer.address),
      peer.serving.map((serving) => `${formatSpan(serving.span)} ${serving.recipe}`).join(', ') || '-',
      peer.state,
      peer.rttMs === null ? '-' : `${peer.rttMs.toFixed(1)} ms`,
      peer.connected ? `${peer.transport === 'relay' ? 'relay' : `direct, ${peer.transport}`}` : 'no',
      peer.quality ?? '-',
      `${peer.score?.toFixed(2) ?? '-'}${peer.twoTruths ? ' !' : ''}`,
      peer.reachability,
      peer.version,
    ])
    printLine(
      formatTable(['address', 'layers', 'state', 'rtt', 'link', 'quality', 'score', 'reached', 'version'], rows),
    )
    if (peers.some(({ twoTruths }) => twoTruths)) {
      printLine('! It has signed two contact records with one number: its keys are in two places, or it lies.')
    }
  },
}

function printUsage({ models }: UsageBody): void {
  if (models.length === 0) printLine('This node serves no layers. Choose some with: llm-node setup')
  for (const { name, peers } of models) {
    printLine(`${name}:`)
    if (peers.length === 0) printLine('  nobody is there who could use it')
    for (const { address, used, reason } of peers) {
      printLine(`  ${shortAddress(address)}  ${used ? 'uses it: ' : ''}${reason}`)
    }
  }
}
