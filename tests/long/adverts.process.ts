/**
 * A node that says it holds layers and has none, as a program of its own: FOLDER BOOTSTRAP SPAN_START. Says as JSON lines on
 * stdout whom it knows, after each change. Ends with a good-bye when stdin does.
 */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { createSwarmView } from '../../src/coverage/announce.ts'
import { loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { listenAddrs } from '../../src/p2p/peer-addrs.ts'
import { createPeerNode } from '../../src/p2p/peer-node.ts'
import { serve } from '../integration/swarm-helpers.ts'

export interface AdvertReport {
  /** Unix ms. */
  readonly atMs: number
  readonly address: string
  readonly addrs: readonly string[]
  readonly connections: number
  /** Live ones, without itself: address, and first layer. */
  readonly peers: Readonly<Record<string, number>>
}

const [home = tmpdir(), bootstrap = '', start = '0'] = process.argv.slice(2)
const network = 'long-adverts'
const folder = await mkdtemp(join(home, 'node-'))
const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
const peer = await createPeerNode(
  {
    ...{ network, version: '0.0.0', folder, mdns: false, dht: true },
    listen: listenAddrs('127.0.0.1', 0, ['tcp']),
    transports: ['tcp'],
    bootstrap: bootstrap === '' ? [] : bootstrap.split(','),
  },
  { identity, logger: silentLogger },
)
const swarm = await createSwarmView(
  { network, version: '0.0.0', folder },
  { peer, identity, clock: systemClock, logger: silentLogger },
)

function report(): void {
  const others = swarm.peers().filter((each) => !each.self)
  const body: AdvertReport = {
    atMs: Date.now(),
    address: identity.address,
    addrs: peer.self.addrs().map((addr) => `${addr}/p2p/${peer.self.peerId}`),
    connections: peer.connections().length,
    peers: Object.fromEntries(others.map(({ address, serving }) => [address, serving[0]?.span.start ?? -1])),
  }
  process.stdout.write(`${JSON.stringify(body)}\n`)
}

await peer.start()
await swarm.start()
await swarm.publish([serve(Number(start), Number(start) + 4)])
swarm.onChange(report)
// Silence makes no change of its own: looked at again now and then.
const looking = setInterval(report, 1_000)
report()
process.stdin.resume()
process.stdin.once('end', async () => {
  clearInterval(looking)
  await swarm.stop()
  await peer.stop()
  process.exit(0)
})
