import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BenchLayers, type BenchNode, createBenchNode, loadLayers } from '../../bench/lib/bench-node.ts'
import type { Span } from '../../src/base/span.ts'
import type { HopTarget } from '../../src/onion/ring.ts'

const MODEL = fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))

interface TestNode extends BenchNode {
  target(): HopTarget
}

const load = (folder: string, span: Span) => loadLayers(MODEL, folder, { recipe: 'f32/1', span, threads: 1 })

async function createTestNode(folder: string, name: string, span?: Span): Promise<TestNode> {
  const layers = span === undefined ? undefined : await load(join(folder, name, 'model'), span)
  const node = await createBenchNode(join(folder, name, 'keys'), layers)
  return {
    ...node,
    target() {
      const { identity, peer } = node
      const [key] = identity.onionKeys(Date.now())
      const base = { addressKey: identity.addressKey, onionKey: key.publicKey, peerId: identity.peerId }
      const addrs = peer.self.addrs()
      return span === undefined ? { role: 'relay', ...base, addrs } : { role: 'compute', span, ...base, addrs }
    },
  }
}

describe('a ring over real nodes', () => {
  let folder: string
  let nodes: TestNode[]
  let whole: BenchLayers

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'llm-node-ring-'))
    whole = await load(join(folder, 'whole'), { start: 0, end: 12 })
    nodes = await Promise.all([
      createTestNode(folder, 'entry'),
      createTestNode(folder, 'a', { start: 0, end: 4 }),
      createTestNode(folder, 'b', { start: 4, end: 8 }),
      createTestNode(folder, 'c', { start: 8, end: 12 }),
      createTestNode(folder, 'r1'),
      createTestNode(folder, 'r2'),
    ])
  })

  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.stop()))
    await whole.runner.close()
    await rm(folder, { recursive: true, force: true })
  })

  /** Prefill of 40 rows in chunks, then 6 single rows, through `forward`. */
  async function run(forward: (pos: number, rows: Float32Array) => Promise<Float32Array>): Promise<Float32Array[]> {
    const row = (pos: number) => Float32Array.from({ length: 128 }, (_, i) => Math.sin(pos * 7.3 + i * 0.61))
    const rows = (from: number, to: number) => {
      const joined = new Float32Array((to - from) * 128)
      for (let pos = from; pos < to; pos++) joined.set(row(pos), (pos - from) * 128)
      return joined
    }
    const outputs = await Promise.all([forward(0, rows(0, 16)), forward(16, rows(16, 32)), forward(32, rows(32, 40))])
    for (let pos = 40; pos < 46; pos++) outputs.push(await forward(pos, row(pos)))
    return outputs
  }

  async function runRing(hops: readonly HopTarget[]): Promise<Float32Array[]> {
    const [entry] = nodes
    if (entry === undefined) throw new Error('no entry')
    const ring = await entry.onion.openRing(
      {
        hops,
        modelId: whole.modelId,
        hiddenSize: 128,
        maxContext: 64,
        numericsClass: whole.numericsClass,
      },
      { signal: AbortSignal.timeout(20_000) },
    )
    const outputs = await run(async (pos, rows) => {
      return (await ring.forward({ pos, hidden: rows, want: rows.length / 128 })).hidden
    })
    await ring.close()
    return outputs
  }

  const targetsOf = (indexes: readonly number[]) => indexes.flatMap((index) => nodes[index]?.target() ?? [])

  it.each([
    ['three compute hops', [1, 2, 3]],
    ['relays before the first and after the last', [4, 1, 2, 3, 5]],
    ['a relay between compute hops', [1, 4, 2, 5, 3]],
  ])('computes what one process computes: %s', async (_, indexes) => {
    const session = whole.runner.openSession({ span: { start: 0, end: 12 }, maxContext: 64 })
    const expected = await run((pos, rows) => session.forward(pos, rows))
    session.close()
    const outputs = await runRing(targetsOf(indexes))
    expect(outputs).toEqual(expected)
  })

  it('frees the KV of every hop when the ring closes', async () => {
    await runRing(targetsOf([1, 2, 3]))
    await expect.poll(() => nodes.flatMap((node) => node.hops.sessions)).toEqual([])
  })
})
