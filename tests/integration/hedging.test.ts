/** Two circuits race, and deadlines of one request: the answer is the one that nobody disturbed. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { ComputeService } from '../../src/onion/ports.ts'
import type { AskAnswer } from '../../src/pipeline/ask.ts'
import type { HopServer } from '../../src/pipeline/hop-server.ts'
import { createCleanup } from './p2p-helpers.ts'
import { type AskedAnswer, openTestModel, startComputeNode, startEntry, type TestModel } from './pipeline-helpers.ts'

const A = { start: 0, end: 6 }
const B = { start: 6, end: 12 }
const short = { prompt: { messages: [{ role: 'user', content: 'one two three' }] }, maxTokens: 30, speculate: false }
/** Longer than anything else in these tests takes. */
const SLOW_MS = 5_000

const lasting = createCleanup()
const cleanup = createCleanup()
let model: TestModel
let undisturbed: AskAnswer

beforeAll(async () => {
  model = await openTestModel(lasting)
  undisturbed = resultOf(await (await startAll()).entry.ask(short))
  await cleanup.run()
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

function resultOf({ result, error }: AskedAnswer): AskAnswer {
  if (result === undefined) throw error ?? new Error('no result')
  return result
}

/** a → b, and slower ones beside both. b waits before its `at`-th call. */
async function startAll(at = Number.POSITIVE_INFINITY, waitMs = SLOW_MS) {
  const wrap = (hops: HopServer): ComputeService => ({
    offer: hops.offer,
    open(request) {
      const session = hops.open(request)
      let calls = 0
      return {
        hiddenSize: session.hiddenSize,
        maxContext: session.maxContext,
        get length() {
          return session.length
        },
        async forward(pos, rows) {
          if (calls++ === at) await delay(waitMs, undefined, { ref: false })
          return session.forward(pos, rows)
        },
        close: () => session.close(),
      }
    },
  })
  const nodes = await Promise.all([
    startComputeNode(cleanup, model, A),
    startComputeNode(cleanup, model, B, { wrap }),
    startComputeNode(cleanup, model, A, { decodeMs: 2 }),
    startComputeNode(cleanup, model, B, { decodeMs: 2 }),
  ])
  return { nodes, entry: await startEntry(cleanup, model, nodes) }
}

function expectUndisturbed(answer: AskedAnswer): AskAnswer {
  const result = resultOf(answer)
  const { text, tokens, logitsSha256 } = undisturbed
  expect(result).toMatchObject({ text, tokens, logitsSha256, exact: true })
  return result
}

test.each([
  ['the first token is late', 0],
  ['a step is late', 22],
])(
  'hedge: when %s, a second circuit brings it, and the first one frees its memory',
  async (_, at) => {
    const { nodes, entry } = await startAll(at)
    const startedMs = performance.now()
    const result = expectUndisturbed(await entry.ask({ ...short, hedge: true }))
    expect(performance.now() - startedMs).toBeLessThan(SLOW_MS)
    expect(result.failovers).toBe(0)
    expect(result.hops[1]?.address).toBe(nodes[3]?.holder.address)
    expect(result.seenBy).toBeGreaterThan(2)
    await expect.poll(() => nodes.flatMap(({ hops }) => hops.sessions), { timeout: 2 * SLOW_MS }).toEqual([])
  },
  20_000,
)

test('also without it, when the first token takes far longer than it should', async () => {
  const { nodes, entry } = await startAll(0, 25_000)
  const startedMs = performance.now()
  const result = expectUndisturbed(await entry.ask(short))
  expect(performance.now() - startedMs).toBeLessThan(20_000)
  expect(result.failovers).toBe(0)
  expect(result.hops[1]?.address).toBe(nodes[3]?.holder.address)
  // The next one does not go where this one had to wait.
  expectUndisturbed(await entry.ask(short))
  expect(performance.now() - startedMs).toBeLessThan(20_000)
}, 30_000)

test('without it nobody else sees anything', async () => {
  expect(expectUndisturbed(await (await startAll()).entry.ask(short)).seenBy).toBe(2)
})

test.each([
  ['first token', 0, { firstTokenMs: 700 }],
  ['further token', 5, { tokenMs: 700 }],
])('a deadline for the %s: another way is tried', async (_, at, patience) => {
  const { nodes, entry } = await startAll(at)
  const answer = await entry.ask({ ...short, patience })
  const result = expectUndisturbed(answer)
  expect(result.failovers).toBeGreaterThan(0)
  expect(answer.events.find(({ type }) => type === 'failover')).toMatchObject({ reason: 'HOP_TIMEOUT' })
  expect(result.hops.map(({ address }) => address)).not.toEqual(nodes.slice(0, 2).map(({ holder }) => holder.address))
})

test('a deadline for the whole answer ends it, with the text so far', async () => {
  const { entry } = await startAll(12)
  const { events, error } = await entry.ask({ ...short, totalMs: 2_500 })
  expect(error).toMatchObject({ code: 'DEADLINE', meta: { totalMs: 2_500 } })
  const kept = events.find((event) => event.type === 'interrupted')
  expect(kept).toMatchObject({ resume: null, tokens: undisturbed.tokens.slice(0, kept?.tokens.length) })
  expect(undisturbed.text.startsWith(kept?.text ?? '?')).toBe(true)
})
