/**
 * A node without layers as a program of its own: NETWORK FIRST_LAYER END_LAYER. Says as JSON lines on stdout whom it
 * knows, after each change. Ends when stdin does, with a good-bye.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { createSwarmView } from '../../src/coverage/announce.ts'
import { loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createPeerNode } from '../../src/p2p/peer-node.ts'
import { serve } from '../integration/swarm-helpers.ts'

const [network = 'test', start = '0', end = '4'] = process.argv.slice(2)
const folder = await mkdtemp(join(tmpdir(), 'llm-net-'))
const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
const node = await createPeerNode({ network, version: '0.0.0', folder }, { identity, logger: silentLogger })
const swarm = await createSwarmView(
  { network, version: '0.0.0', folder, tickMs: 1_000 },
  { peer: node, identity, clock: systemClock, logger: silentLogger },
)

export interface SwarmReport {
  readonly address: string
  readonly addrs: readonly string[]
  readonly connections: number
  readonly peers: readonly { readonly address: string; readonly addrs: readonly string[]; readonly start: number }[]
}

function report(): void {
  const peers = swarm.peers().filter((peer) => !peer.self)
  const body: SwarmReport = {
    address: identity.address,
    addrs: node.self.addrs(),
    connections: node.connections().length,
    peers: peers.map(({ address, addrs, serving }) => ({ address, addrs, start: serving[0]?.span.start ?? -1 })),
  }
  process.stdout.write(`${JSON.stringify(body)}\n`)
}

await node.start()
await swarm.start()
await swarm.publish([serve(Number(start), Number(end))])
swarm.onChange(report)
report()
process.stdin.resume()
process.stdin.once('end', async () => {
  await swarm.stop()
  await node.stop()
  await rm(folder, { recursive: true, force: true })
  process.exit(0)
})
