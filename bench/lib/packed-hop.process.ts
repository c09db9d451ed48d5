/** One hop of a bench model as a process of its own: serves packed layers on loopback until its parent has gone. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Span } from '../../src/base/span.ts'
import { numericsClass } from '../../src/shard/probe.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner } from '../../src/shard/runner.ts'
import { createBenchNode } from './bench-node.ts'
import type { BenchModel } from './bench-weights.ts'

export interface PackedHopOrder {
  readonly model: BenchModel
  readonly recipe: RecipeId
  readonly span: Span
  readonly threads: number
}

/** How the hop is reached; bytes as arrays of numbers. */
export interface PackedHopAnswer {
  readonly addressKey: readonly number[]
  readonly onionKey: readonly number[]
  readonly peerId: string
  readonly addrs: readonly string[]
}

/** Bench models have no files that an id could be made of. */
export const benchModelId = new Uint8Array(32).fill(7)

if (process.send !== undefined) {
  process.once('message', async ({ model, recipe, span, threads }: PackedHopOrder) => {
    const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-hop-'))
    const layerFiles = model.layerFiles.slice(span.start, span.end)
    const { spec } = model
    const runner = await createSpanRunner({ spec, recipe, span, layerFiles, threads, kvBudgetBytes: 2 ** 32 })
    const layers = { runner, modelId: benchModelId, numericsClass: await numericsClass(recipe) }
    const node = await createBenchNode(join(folder, 'keys'), layers)
    const [key] = node.identity.onionKeys(Date.now())
    process.send?.({
      addressKey: [...node.identity.addressKey],
      onionKey: [...key.publicKey],
      peerId: node.identity.peerId,
      addrs: node.peer.self.addrs(),
    } satisfies PackedHopAnswer)
    process.once('disconnect', async () => {
      await node.stop()
      await rm(folder, { recursive: true, force: true })
    })
  })
}
