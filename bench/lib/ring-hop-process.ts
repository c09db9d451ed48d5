/**
 * One stop of a ring for bench/onion.ts, as a process of its own: a compute hop whose layers give back what they get, or a
 * relay; with the onion layer, or (`plain`) on the same streams without it. Arguments as JSON. Prints how it is reached;
 * a plain one is then told what it is in a line. Ends with its stdin.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { toHex } from '../../src/base/bytes.ts'
import { createPlainStop, type PlainStop } from './plain-ring.ts'
import { createRingNode } from './ring-node.ts'

const { plain, computes } = JSON.parse(process.argv[2] ?? '{}') as { plain: boolean; computes: boolean }
const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-stop-'))
const node = await createRingNode(folder, { onion: !plain, computes })
const [key] = node.identity.onionKeys(Date.now())
process.stdout.write(
  `${JSON.stringify({
    addressKey: toHex(node.identity.addressKey),
    onionKey: toHex(key.publicKey),
    peerId: node.identity.peerId,
    addrs: node.peer.self.addrs(),
  })}\n`,
)
const lines = createInterface({ input: process.stdin })
lines.on('line', (text) => createPlainStop(node.peer, JSON.parse(text) as PlainStop))
lines.once('close', async () => {
  await node.stop()
  await rm(folder, { recursive: true, force: true })
})
