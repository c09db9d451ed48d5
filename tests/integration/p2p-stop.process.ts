/** A node with a folder (the first argument) that starts, stops, and says what would still keep its process alive. */
import { silentLogger } from '../../src/base/logger.ts'
import { loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createPeerNode } from '../../src/p2p/peer-node.ts'

const [folder = ''] = process.argv.slice(2)
const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
const node = await createPeerNode(
  {
    ...{ network: 'stop', version: '0.0.0', folder, mdns: false, dht: true },
    ...{ listen: ['/ip4/127.0.0.1/tcp/0'], transports: ['tcp'] },
  },
  { identity, logger: silentLogger },
)
await node.start()
await node.stop()
const left = process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap' && name !== 'TTYWrap')
process.stdout.write(JSON.stringify(left))
