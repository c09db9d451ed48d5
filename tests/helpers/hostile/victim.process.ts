/**
 * The node under attack, alone in its process, so that its heap is its own: layers of the demo model, circuits, relaying.
 * Its links count as strangers', as on the internet. Prints how it is reached; each line on stdin is answered with its
 * memory after a collection and what its circuits hold. Needs --expose-gc; ends with its stdin.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadLayers } from '../../../bench/lib/bench-node.ts'
import { toHex } from '../../../src/base/bytes.ts'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import type { CircuitTransport, FrameLink } from '../../../src/onion/ports.ts'
import { createOnionService } from '../../../src/onion/service.ts'
import { loadOrCreateIdentity } from '../../../src/p2p/identity.ts'
import { createPeerNode } from '../../../src/p2p/peer-node.ts'
import { createHopServer } from '../../../src/pipeline/hop-server.ts'

const folder = await mkdtemp(join(tmpdir(), 'llm-node-victim-'))
const model = fileURLToPath(new URL('../../../models/demo-qwen3', import.meta.url))
const layers = await loadLayers(model, join(folder, 'model'), {
  recipe: 'f32/1',
  span: { start: 0, end: 4 },
  threads: 1,
})
const identity = await loadOrCreateIdentity(join(folder, 'keys'), { nowMs: Date.now() })
const peer = await createPeerNode(
  { network: 'hostile', version: '0', listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false, transports: ['tcp'] },
  { identity, logger: silentLogger },
)
const hops = createHopServer()
hops.serve(layers)
const strange = (link: FrameLink): FrameLink =>
  new Proxy(link, {
    get: (target, name) => {
      if (name === 'remoteIsLocal') return false
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
const transport: CircuitTransport = {
  self: peer.self,
  isConnected: (peerId) => peer.isConnected(peerId),
  connect: (target, options) => peer.connect(target, options),
  open: (target, options) => peer.open(target, options),
  refuse: (peerId, ms) => peer.refuse(peerId, ms),
  onLink: (handler) => peer.onLink((link) => handler(strange(link))),
}
const onion = createOnionService(
  { identity, network: 'hostile', relay: () => true, lan: true, published: () => true },
  { transport, compute: hops, clock: systemClock, logger: silentLogger },
)
await peer.start()
const [key] = identity.onionKeys(Date.now())
const say = (body: unknown) => process.stdout.write(`${JSON.stringify(body)}\n`)
say({
  addressKey: toHex(identity.addressKey),
  onionKey: toHex(key.publicKey),
  modelId: toHex(layers.modelId),
  numericsClass: toHex(layers.numericsClass),
  hiddenSize: layers.runner.spec.hiddenSize,
  peerId: identity.peerId,
  addrs: peer.self.addrs(),
})
process.stdin.on('data', async () => {
  // Buffers are given back only after what held them: once is not enough.
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { heapUsed, external } = process.memoryUsage()
  say({
    bytes: heapUsed + external,
    ...onion.stats(),
    sessions: hops.sessions.length,
    links: peer.connections().length,
  })
})
process.stdin.once('end', async () => {
  await onion.stop()
  await peer.stop()
  await layers.runner.close()
  await rm(folder, { recursive: true, force: true })
})
