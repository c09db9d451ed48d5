/**
 * One hop as a process of its own: serves layers of a model folder on loopback, tells how to reach it in one JSON line,
 * and ends with its stdin. Arguments: model folder, recipe, first layer, end layer, threads.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toHex } from '../../src/base/bytes.ts'
import { parseRecipe } from '../../src/shard/recipe.ts'
import { createBenchNode, loadLayers } from './bench-node.ts'

const [model = '', recipe = '', start = '', end = '', threads = ''] = process.argv.slice(2)
const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-hop-'))
const span = { start: Number(start), end: Number(end) }
const layers = await loadLayers(model, join(folder, 'model'), {
  recipe: parseRecipe(recipe),
  span,
  threads: Number(threads),
})
const node = await createBenchNode(join(folder, 'keys'), layers)
const [key] = node.identity.onionKeys(Date.now())
console.log(
  JSON.stringify({
    addressKey: toHex(node.identity.addressKey),
    onionKey: toHex(key.publicKey),
    peerId: node.identity.peerId,
    addrs: node.peer.self.addrs(),
  }),
)
process.stdin.on('data', () => {
  const { steps, meanMs } = node.hops.decode
  console.log(JSON.stringify({ steps, meanMs }))
})
process.stdin.once('end', async () => {
  await node.stop()
  await rm(folder, { recursive: true, force: true })
})
