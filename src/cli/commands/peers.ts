import type { CommandModule } from 'yargs'
import type { PeerBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, shortAddress } from '../output.ts'

export const peersCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'peers',
  describe: 'The peers that this node knows',
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
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
      peer.reachability,
      peer.version,
    ])
    printLine(formatTable(['address', 'layers', 'state', 'rtt', 'link', 'quality', 'reached', 'version'], rows))
  },
}
