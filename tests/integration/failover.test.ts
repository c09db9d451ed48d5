/** Hops that die, refuse, stall or lie under a generation: the answer is the one that nobody disturbed, to the bit. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { pipelineLimits } from '../../src/base/limits.ts'
import type { ComputeService } from '../../src/onion/ports.ts'
import type { AskAnswer, AskOptions } from '../../src/pipeline/ask.ts'
import type { HopServer } from '../../src/pipeline/hop-server.ts'
import { createCleanup } from './p2p-helpers.ts'
import {
  type AskedAnswer,
  openTestModel,
  type SentFrame,
  startComputeNode,
  startEntry,
  type TestModel,
} from './pipeline-helpers.ts'

const A = { start: 0, end: 4 }
const B = { start: 4, end: 8 }
const C = { start: 8, end: 12 }

const lasting = createCleanup()
const cleanup = createCleanup()
let model: TestModel
let undisturbed: AskAnswer
/** Frames of the prompt, and rows of the frame after which a token may have been guessed ahead. */
let prefillFrames: number

beforeAll(async () => {
  model = await openTestModel(lasting)
  const nodes = await startNodes()
  const { answer, frames } = await askOver(nodes.slice(0, 3))
  undisturbed = resultOf(answer)
  prefillFrames = frames.filter((frame) => frame.rows > 8).length
  expect(undisturbed.tokens).toHaveLength(40)
  expect(undisturbed.failovers).toBe(0)
  expect(undisturbed.drafted).toBeGreaterThan(0)
  expect(prefillFrames).toBeGreaterThan(2)
  await cleanup.run()
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

/** a, b, c and slower ones that can take over: b2, c2, a2. */
async function startNodes(wrapB?: (hops: HopServer) => ComputeService) {
  return Promise.all([
    startComputeNode(cleanup, model, A),
    startComputeNode(cleanup, model, B, wrapB === undefined ? {} : { wrap: wrapB }),
    startComputeNode(cleanup, model, C),
    startComputeNode(cleanup, model, B, { decodeMs: 2 }),
    startComputeNode(cleanup, model, C, { decodeMs: 2 }),
    startComputeNode(cleanup, model, A, { decodeMs: 2 }),
  ])
}

type Nodes = Awaited<ReturnType<typeof startNodes>>

async function askOver(
  nodes: Nodes | Nodes[number][],
  options: Parameters<typeof startEntry>[3] = {},
  wishes: Partial<AskOptions> = {},
): Promise<{ answer: AskedAnswer; frames: readonly SentFrame[] }> {
  const entry = await startEntry(cleanup, model, nodes, options)
  return { answer: await entry.ask({ suspendMs: 0, ...wishes }), frames: entry.frames }
}

function resultOf({ result, error }: AskedAnswer): AskAnswer {
  if (result === undefined) throw error ?? new Error('no result')
  return result
}

function expectUndisturbed(answer: AskedAnswer): AskAnswer {
  const result = resultOf(answer)
  const { text, tokens, finishReason, logitsSha256, promptTokens, exact } = undisturbed
  expect(result).toMatchObject({ text, tokens, finishReason, logitsSha256, promptTokens, exact })
  return result
}

/** Frames count from 0; the last prefill frame brings the first token. */
const phases: [name: string, at: (frame: SentFrame) => boolean][] = [
  ['in the second chunk of the prompt', ({ frame }) => frame === 1],
  ['before the first token', ({ frame }) => frame === prefillFrames - 1],
  ['after the first token', ({ frame }) => frame === prefillFrames],
  ['between tokens', ({ frame }) => frame === prefillFrames + 5],
  ['while tokens are guessed ahead', ({ frame, rows }) => frame > prefillFrames && rows > 1],
]

describe.each([
  ['first', 0],
  ['middle', 1],
  ['last', 2],
] as const)('the %s hop dies', (_, index) => {
  test.each(phases)('%s', async (_name, at) => {
    const nodes = await startNodes()
    const { answer } = await askOver(nodes, {
      before: (frame) => (frame.ring === 0 && at(frame) ? nodes[index]?.node.stop() : undefined),
    })
    const result = expectUndisturbed(answer)
    expect(result.failovers).toBeGreaterThan(0)
    const failover = answer.events.find((event) => event.type === 'failover')
    expect(failover).toMatchObject({ reason: expect.stringMatching(/CIRCUIT_BROKEN|HOP_TIMEOUT|PEER_UNREACHABLE/) })
    expect(result.hops.map((hop) => hop.address)).not.toContain(nodes[index]?.holder.address)
  })
})

test('two hops die one after the other, the second while the answer is being moved', async () => {
  const nodes = await startNodes()
  const { answer } = await askOver(nodes, {
    async before({ ring, frame }) {
      if (ring === 0 && frame === prefillFrames + 3) await nodes[1].node.stop()
      if (ring === 1 && frame === 1) await nodes[2].node.stop()
    },
  })
  expect(expectUndisturbed(answer).failovers).toBeGreaterThan(1)
})

test('a hop is gone before the circuit is built', async () => {
  const nodes = await startNodes()
  await nodes[1].node.stop()
  const { answer } = await askOver(nodes)
  expectUndisturbed(answer)
})

test('a hop refuses', async () => {
  const nodes = await startNodes()
  nodes[1].hops.accept(false)
  const { answer } = await askOver(nodes)
  expectUndisturbed(answer)
  expect(answer.events.find((event) => event.type === 'failover')).toMatchObject({ reason: 'PEER_REFUSED', spans: [B] })
})

/** b with another way of computing from its `at`-th call on. */
function faulty(at: number, forward: (rows: Float32Array) => Promise<Float32Array>) {
  return (hops: HopServer): ComputeService => ({
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
        forward: (pos, hidden) => (calls++ < at ? session.forward(pos, hidden) : forward(hidden)),
        close: () => session.close(),
      }
    },
  })
}

test('a hop computes something that is no number', async () => {
  const nodes = await startNodes(faulty(8, async (rows) => rows.map(() => Number.NaN)))
  const { answer } = await askOver(nodes)
  expect(expectUndisturbed(answer).failovers).toBeGreaterThan(0)
})

test('a hop stalls, though it still answers', async () => {
  const nodes = await startNodes(faulty(8, () => new Promise(() => {})))
  const { answer } = await askOver(nodes, { limits: { stepMs: 200, prefillMs: 1_000 } })
  expect(expectUndisturbed(answer).failovers).toBeGreaterThan(0)
})

test('without a replica the answer ends soon, and says which layers are missing', async () => {
  const nodes = (await startNodes()).slice(0, 3)
  const { answer } = await askOver(nodes, {
    before: ({ frame }) => (frame === prefillFrames + 5 ? nodes[1]?.node.stop() : undefined),
  })
  expect(answer.error).toMatchObject({ code: 'COVERAGE_GAP', meta: { layers: ['4-7'] } })
  expect(answer.error?.message).toContain('4-7')
  const text = answer.events.map((event) => (event.type === 'text' ? event.text : '')).join('')
  expect(text.length).toBeGreaterThan(0)
  expect(undisturbed.text.startsWith(text)).toBe(true)
}, 10_000)

test('without a replica the answer waits, visibly, and goes on when somebody has come', async () => {
  const [a, b, c, b2] = await startNodes()
  const known = [a, b, c]
  const entry = await startEntry(cleanup, model, known, {
    before: ({ ring, frame }) => (ring === 0 && frame === prefillFrames + 5 ? b.node.stop() : undefined),
  })
  const answer = await entry.ask({ onSuspended: () => known.push(b2) })
  const result = expectUndisturbed(answer)
  const told = answer.events.filter(({ type }) => type === 'suspended' || type === 'continued')
  expect(told).toMatchObject([{ type: 'suspended', layers: ['4-7'] }, { type: 'continued' }])
  expect(result.hops.map(({ address }) => address)).toContain(b2.holder.address)
})

test('who waits can be stopped', async () => {
  const nodes = (await startNodes()).slice(0, 3)
  const stop = new AbortController()
  const entry = await startEntry(cleanup, model, nodes, {
    before: ({ frame }) => (frame === prefillFrames + 5 ? nodes[1]?.node.stop() : undefined),
  })
  const { error } = await entry.ask({ signal: stop.signal, onSuspended: () => stop.abort() })
  expect(error?.code).toBe('ABORTED')
})

test('in another numerics class it goes on only where that is allowed, and says from where on', async () => {
  const [a, b, c] = await startNodes()
  // It computes as all others do and only says something else, so that the text shows nothing.
  const served = await startComputeNode(cleanup, model, B, {
    decodeMs: 2,
    numericsClass: new Uint8Array(32).fill(0xee),
  })
  const nodes = [a, b, c, { ...served, holder: { ...served.holder, numericsClass: 'ee'.repeat(32) } }]
  const before = ({ ring, frame }: SentFrame) => (ring === 0 && frame === prefillFrames + 5 ? b.node.stop() : undefined)
  const { answer } = await askOver(nodes, { before }, { exact: false })
  const result = resultOf(answer)
  expect(result).toMatchObject({ text: undisturbed.text, tokens: undisturbed.tokens, exact: false })
  const changed = answer.events.find(({ type }) => type === 'changed')
  expect(changed).toEqual({ type: 'changed', index: result.changedAt })
  expect(result.changedAt).toBeGreaterThan(0)
})

test('a spare circuit is there when a hop dies: only the replay is left', async () => {
  const nodes = await startNodes()
  const rings: number[] = []
  const entry = await startEntry(cleanup, model, nodes, {
    async before({ ring, frame }) {
      rings.push(ring)
      if (ring !== 0 || frame < prefillFrames + 1) return
      // Long enough to deserve one.
      if (frame === prefillFrames + 1) await delay(pipelineLimits.spareAfterMs)
      if (frame === prefillFrames + 3) {
        await expect.poll(() => nodes[3].hops.sessions.length).toBe(1)
        await nodes[1].node.stop()
      }
    },
  })
  const result = expectUndisturbed(await entry.ask())
  expect(result.failovers).toBe(1)
  expect(Math.max(...rings)).toBe(1)
  await expect.poll(() => nodes.flatMap((node) => node.hops.sessions)).toEqual([])
})

test('nothing is left behind on the hops that live', async () => {
  const nodes = await startNodes()
  await askOver(nodes, {
    before: ({ ring, frame }) => (ring === 0 && frame === prefillFrames + 5 ? nodes[1].node.stop() : undefined),
  })
  const alive = nodes.filter((_, index) => index !== 1)
  await expect.poll(() => alive.flatMap((node) => node.hops.sessions)).toEqual([])
})
