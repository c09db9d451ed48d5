import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { Span } from '../../src/base/span.ts'
import type { HopTarget } from '../../src/onion/ring.ts'
import { createOnionService, type OnionService } from '../../src/onion/service.ts'
import { type Identity, loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createPeerNode, type PeerNode } from '../../src/p2p/peer-node.ts'
import { createHopServer, type HopServer } from '../../src/pipeline/hop-server.ts'
import { downloadModel } from '../../src/shard/download.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { numericsClass } from '../../src/shard/probe.ts'
import { createSpanRunner, type SpanRunner } from '../../src/shard/runner.ts'

const MODEL = fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))

interface TestNode {
  readonly identity: Identity
  readonly peer: PeerNode
  readonly onion: OnionService
  readonly hops: HopServer
  readonly runner: SpanRunner | undefined
  readonly modelId: Uint8Array | undefined
  target(): HopTarget
  stop(): Promise<void>
}

async function createTestNode(folder: string, name: string, span?: Span): Promise<TestNode> {
  const identity = await loadOrCreateIdentity(join(folder, name, 'keys'), { nowMs: Date.now() })
  const peer = await createPeerNode(
    { network: 'ring-test', version: '0', listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false },
    { identity, logger: silentLogger },
  )
  const hops = createHopServer()
  const loaded = span === undefined ? undefined : await loadSpan(join(folder, name, 'model'), span)
  if (loaded !== undefined) hops.serve({ ...loaded, numericsClass: await numericsClass('f32/1') })
  const onion = createOnionService(
    { identity, network: 'ring-test', relay: true, lan: true, published: () => true },
    { transport: peer, compute: hops, clock: systemClock, logger: silentLogger },
  )
  await peer.start()
  return {
    identity,
    peer,
    onion,
    hops,
    runner: loaded?.runner,
    modelId: loaded?.modelId,
    target() {
      const [key] = identity.onionKeys(Date.now())
      const base = { addressKey: identity.addressKey, onionKey: key.publicKey, peerId: identity.peerId }
      const addrs = peer.self.addrs()
      return span === undefined ? { role: 'relay', ...base, addrs } : { role: 'compute', span, ...base, addrs }
    },
    async stop() {
      await onion.stop()
      await peer.stop()
      await loaded?.runner.close()
    },
  }
}

async function loadSpan(folder: string, span: Span): Promise<{ runner: SpanRunner; modelId: Uint8Array }> {
  const holding = await downloadModel({
    source: createFolderSource(MODEL),
    folder,
    recipe: 'f32/1',
    span,
    ends: false,
  })
  const layerFiles = [...holding.layers.values()].map((layer) => layer.path)
  const runner = await createSpanRunner({
    spec: holding.spec,
    recipe: 'f32/1',
    span,
    layerFiles,
    threads: 1,
    kvBudgetBytes: 64 * 1_048_576,
  })
  return { runner, modelId: holding.modelId }
}

describe('a ring over real nodes', () => {
  let folder: string
  let nodes: TestNode[]
  let whole: { runner: SpanRunner; modelId: Uint8Array }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'llm-node-ring-'))
    whole = await loadSpan(join(folder, 'whole'), { start: 0, end: 12 })
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
        numericsClass: await numericsClass('f32/1'),
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
