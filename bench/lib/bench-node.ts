import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { Span } from '../../src/base/span.ts'
import { createOnionService, type OnionService } from '../../src/onion/service.ts'
import { type Identity, loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createPeerNode, type PeerNode } from '../../src/p2p/peer-node.ts'
import { createHopServer, type HopServer } from '../../src/pipeline/hop-server.ts'
import { downloadModel } from '../../src/shard/download.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { numericsClass } from '../../src/shard/probe.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner, type SpanRunner } from '../../src/shard/runner.ts'

export interface BenchLayers {
  readonly runner: SpanRunner
  readonly modelId: Uint8Array
  readonly numericsClass: Uint8Array
}

/** A node without discovery: identity, transport on loopback, circuits, and layers if any. */
export interface BenchNode {
  readonly identity: Identity
  readonly peer: PeerNode
  readonly onion: OnionService
  readonly hops: HopServer
  stop(): Promise<void>
}

export async function loadLayers(
  model: string,
  folder: string,
  options: { recipe: RecipeId; span: Span; threads: number },
): Promise<BenchLayers> {
  const { recipe, span, threads } = options
  const source = createFolderSource(model)
  const holding = await downloadModel({ source, folder, recipe, span, ends: false })
  const layerFiles = [...holding.layers.values()].map((layer) => layer.path)
  const runner = await createSpanRunner({
    spec: holding.spec,
    recipe,
    span,
    layerFiles,
    threads,
    kvBudgetBytes: 512 * 1_048_576,
  })
  return { runner, modelId: holding.modelId, numericsClass: await numericsClass(recipe) }
}

export async function createBenchNode(keysFolder: string, layers?: BenchLayers): Promise<BenchNode> {
  const identity = await loadOrCreateIdentity(keysFolder, { nowMs: Date.now() })
  const peer = await createPeerNode(
    { network: 'bench', version: '0', listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false },
    { identity, logger: silentLogger },
  )
  const hops = createHopServer()
  if (layers !== undefined) hops.serve(layers)
  const onion = createOnionService(
    { identity, network: 'bench', relay: () => true, lan: true, published: () => true },
    { transport: peer, compute: hops, clock: systemClock, logger: silentLogger },
  )
  await peer.start()
  return {
    identity,
    peer,
    onion,
    hops,
    async stop() {
      await onion.stop()
      await peer.stop()
      await layers?.runner.close()
    },
  }
}
