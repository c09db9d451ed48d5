/**
 * A peer node without a swarm as a program of its own: OPTIONS as JSON, see PeerOptions. Says as JSON lines on stdout how
 * it stands, several times a second. Ends when stdin does.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { relayLimits } from '../../src/base/limits-reach.ts'
import { createLogger, silentLogger } from '../../src/base/logger.ts'
import type { ConnectionInfo } from '../../src/p2p/connection-info.ts'
import { loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { listenAddrs } from '../../src/p2p/peer-addrs.ts'
import { createPeerNode, type ReachabilityReport } from '../../src/p2p/peer-node.ts'

export interface PeerOptions {
  readonly bootstrap?: readonly string[]
  readonly vouched?: boolean
  readonly relay?: boolean
  readonly upnp?: boolean
  readonly port?: number
}

export interface PeerReport {
  readonly peerId: string
  readonly addrs: readonly string[]
  readonly reachability: ReachabilityReport
  readonly connections: readonly ConnectionInfo[]
}

const {
  bootstrap = [],
  vouched = false,
  relay = false,
  upnp = false,
  port = 5561,
}: PeerOptions = JSON.parse(process.argv[2] ?? '{}')
const folder = await mkdtemp(join(tmpdir(), 'llm-net-'))
const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
const logger = process.env.LLM_NET_DEBUG === undefined ? silentLogger : createLogger({ level: 'debug' })
const node = await createPeerNode(
  {
    network: 'test',
    version: '0.0.0',
    listen: listenAddrs('0.0.0.0', port, ['tcp', 'quic']),
    mdns: false,
    bootstrap,
    vouched,
    upnp,
    relay: relay ? relayLimits.node : undefined,
  },
  { identity, logger },
)
await node.handle('/llm/test-echo/1', { maxRequestBytes: 1_000 }, (body) => body)

let last = ''
function report(): void {
  const body: PeerReport = {
    peerId: node.self.peerId,
    addrs: node.self.addrs(),
    reachability: node.reachability(),
    connections: node.connections(),
  }
  const text = JSON.stringify(body)
  if (text !== last) process.stdout.write(`${text}\n`)
  last = text
}

await node.start()
report()
setInterval(report, 200).unref()
process.stdin.resume()
process.stdin.once('end', async () => {
  await node.stop()
  await rm(folder, { recursive: true, force: true })
  process.exit(0)
})
