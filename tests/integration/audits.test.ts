/** Hops that compute finite, wrong values: an audit finds out that they lie, and who it was. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { ComputeService } from '../../src/onion/ports.ts'
import type { AskAnswer } from '../../src/pipeline/ask.ts'
import { type AuditBook, createAuditBook } from '../../src/pipeline/audit-book.ts'
import type { HopServer } from '../../src/pipeline/hop-server.ts'
import type { SpanRunner } from '../../src/shard/runner.ts'
import { openRunner } from '../helpers/engine.ts'
import { packModel } from '../helpers/packed.ts'
import { expectHonestAudits } from './honest-audits.ts'
import { createCleanup } from './p2p-helpers.ts'
import { type ComputeNode, openTestModel, startComputeNode, startEntry, type TestModel } from './pipeline-helpers.ts'

const A = { start: 0, end: 4 }
const B = { start: 4, end: 8 }
const C = { start: 8, end: 12 }
const spans = [A, B, C]

const lasting = createCleanup()
const cleanup = createCleanup()
let model: TestModel

beforeAll(async () => {
  model = await openTestModel(lasting)
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

interface Lie {
  readonly runner?: SpanRunner
  readonly wrap?: (hops: HopServer) => ComputeService
}

/** The one at `index` of the way lies; beside each hop there are `others` honest ones. */
async function startSwarm(index: number, lie: Lie, others = 2): Promise<ComputeNode[]> {
  const nodes: Promise<ComputeNode>[] = []
  for (let copy = 0; copy <= others; copy++) {
    for (const [at, span] of spans.entries()) {
      const liar = copy === 0 && at === index ? lie : {}
      nodes.push(startComputeNode(cleanup, model, span, { decodeMs: 1 + copy, ...liar }))
    }
  }
  return Promise.all(nodes)
}

function createBook(probability = 1): AuditBook {
  return createAuditBook({ probability, newPeers: probability, clock: systemClock, random: () => 0.5 })
}

async function askOver(nodes: readonly ComputeNode[], audits: AuditBook): Promise<AskAnswer> {
  const entry = await startEntry(cleanup, model, nodes, { audits })
  const { result, error } = await entry.ask({ maxTokens: 16 })
  if (result === undefined) throw error ?? new Error('no result')
  return result
}

/** Computes in another way from what it gets: [pos, rows], honest(pos, rows) → rows. */
function lying(
  change: (
    pos: number,
    rows: Float32Array,
    honest: (pos: number, rows: Float32Array) => Promise<Float32Array>,
  ) => Promise<Float32Array>,
): Lie {
  return {
    wrap: (hops) => ({
      offer: hops.offer,
      open(request) {
        const session = hops.open(request)
        return {
          hiddenSize: session.hiddenSize,
          maxContext: session.maxContext,
          get length() {
            return session.length
          },
          forward: (pos, rows) => change(pos, rows, (at, hidden) => session.forward(at, hidden)),
          close: () => session.close(),
        }
      },
    }),
  }
}

/** One bit of one weight of the first layer of a span is another one. */
async function flippedRunner(span: { start: number; end: number }): Promise<SpanRunner> {
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-flipped-'))
  lasting.add(async () => rmSync(folder, { recursive: true }))
  const { model: packed } = model.engine
  const layerFiles = packed.layerFiles.map((file, layer) => {
    const copy = join(folder, basename(file))
    copyFileSync(file, copy)
    if (layer !== span.start) return copy
    const bytes = readFileSync(copy)
    // The highest bit of the mantissa of a weight in the middle: it changes by up to a half.
    const at = Math.floor(bytes.length / 8) * 4 + 2
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x40, at)
    writeFileSync(copy, bytes)
    return copy
  })
  const runner = await openRunner({ ...packed, layerFiles }, { span })
  lasting.add(() => runner.close())
  return runner
}

const lies: [name: string, lie: () => Lie | Promise<Lie>][] = [
  ['flips one weight', async () => ({ runner: await flippedRunner(B) })],
  [
    'uses another recipe',
    async () => {
      const packed = packModel('models/demo-qwen3', 'q8/1')
      const runner = await openRunner(packed, { span: B })
      lasting.add(async () => {
        await runner.close()
        rmSync(packed.folder, { recursive: true })
      })
      return { runner }
    },
  ],
  ['drops the context', () => lying((pos, rows, honest) => honest(rows.length > 8 * 1024 ? pos : 0, rows))],
  [
    'returns stale results',
    () => {
      let before: Float32Array | undefined
      return lying(async (pos, rows, honest) => {
        const now = await honest(pos, rows)
        const stale = before?.length === now.length ? before : now
        before = now
        return stale
      })
    },
  ],
]

describe('a hop that', () => {
  test.each(lies)('%s is found and named', async (_, lie) => {
    const nodes = await startSwarm(1, await lie())
    const audits = createBook()
    const { audit, seenBy } = await askOver(nodes, audits)
    const liar = nodes[1]?.holder.address ?? ''
    expect(audit).toMatchObject({ state: 'failed', exact: true, liars: [liar] })
    expect(audits.isLiar(liar)).toBe(true)
    expect(audits.evidence).toMatchObject([{ liar, span: B, confirmedBy: expect.any(Array) }])
    expect(JSON.stringify(audits.evidence)).not.toContain('one two')
    // Three computed it, three compared it, and at least one more said who is right.
    expect(seenBy).toBeGreaterThanOrEqual(7)
  })
})

test('an honest answer passes, and who computed and compared it is counted', async () => {
  const audits = createBook()
  const { audit, seenBy } = await askOver(await startSwarm(-1, {}, 1), audits)
  expect(audit).toMatchObject({ state: 'passed', exact: true, liars: [] })
  expect(audit?.rows).toBeGreaterThanOrEqual(16)
  expect(seenBy).toBe(6)
  expect(audits.evidence).toEqual([])
})

test('50 honest answers of all shapes: nobody is accused', async () => {
  const audits = createBook()
  const halves = [0, 6, 0, 6].map((start) => ({ start, end: start + 6 }))
  const nodes = await Promise.all(halves.map((span) => startComputeNode(cleanup, model, span)))
  await expectHonestAudits(50, await startEntry(cleanup, model, nodes, { audits }))
  expect(audits.evidence).toEqual([])
}, 60_000)

test('with two holders only, nobody is accused: it could be either', async () => {
  const nodes = await startSwarm(
    1,
    lying(async (pos, rows, honest) => (await honest(pos, rows)).map((x) => x + 1)),
    1,
  )
  const audits = createBook()
  const { audit } = await askOver(nodes, audits)
  expect(audit).toMatchObject({ state: 'failed', liars: [] })
  expect(audits.evidence).toMatchObject([{ liar: null, suspects: expect.arrayContaining([nodes[1]?.holder.address]) }])
})

test('without others, and with probability 0, nothing is sent to anybody else', async () => {
  expect((await askOver(await startSwarm(-1, {}, 0), createBook())).audit).toMatchObject({ state: 'skipped' })
  const nodes = await startSwarm(-1, {}, 1)
  expect(await askOver(nodes, createBook(0))).toMatchObject({ audit: null, seenBy: 3 })
})
