/** The second turn of a chat: over the circuit of the first, only with the new tokens, and with the same answer. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ChatMessage } from '../../src/model/chat-template.ts'
import type { AskAnswer, AskOptions } from '../../src/pipeline/ask.ts'
import { createIdleChains, type IdleChains } from '../../src/pipeline/idle-chains.ts'
import { createCleanup } from './p2p-helpers.ts'
import {
  type AskedAnswer,
  type ComputeNode,
  openTestModel,
  startComputeNode,
  startEntry,
  type TestEntry,
  type TestModel,
} from './pipeline-helpers.ts'

const lasting = createCleanup()
const cleanup = createCleanup()
let model: TestModel
let nodes: ComputeNode[]
let idle: IdleChains
let entry: TestEntry

beforeAll(async () => {
  model = await openTestModel(lasting)
  nodes = await Promise.all([
    startComputeNode(lasting, model, { start: 0, end: 6 }),
    startComputeNode(lasting, model, { start: 6, end: 12 }),
  ])
})
beforeEach(async () => {
  idle = createIdleChains()
  cleanup.add(() => idle.clear())
  entry = await startEntry(cleanup, model, nodes, { idle })
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

const system: ChatMessage = { role: 'system', content: 'You are a helpful assistant.' }
const first: ChatMessage = { role: 'user', content: 'What is llm-node?' }
const second: ChatMessage = { role: 'user', content: 'And what is a hop?' }

const wishes = (messages: readonly ChatMessage[], more: Partial<AskOptions> = {}): Partial<AskOptions> => ({
  prompt: { messages },
  maxTokens: 40,
  ignoreEnd: false,
  owner: 'admin',
  sampling: { temperature: 0.7, seed: 5 },
  ...more,
})

function resultOf({ result, error }: AskedAnswer): AskAnswer {
  if (result === undefined) throw error ?? new Error('no result')
  return result
}

async function firstTurn(more: Partial<AskOptions> = {}): Promise<ChatMessage[]> {
  const { text } = resultOf(await entry.ask(wishes([system, first], more)))
  return [system, first, { role: 'assistant', content: text }, second]
}

/** The same question to an entry that keeps nothing. */
async function fresh(messages: readonly ChatMessage[]): Promise<AskAnswer> {
  const other = await startEntry(cleanup, model, nodes)
  return resultOf(await other.ask(wishes(messages)))
}

const openRings = () => entry.onion.stats().openRings

test('sends only what is new, and answers as a fresh circuit does, to the bit', async () => {
  const messages = await firstTurn()
  expect(openRings()).toBe(1)
  const before = entry.frames.length
  const result = resultOf(await entry.ask(wishes(messages)))
  const frame = entry.frames[before]
  expect(result.cachedTokens).toBeGreaterThan(20)
  expect(frame).toMatchObject({ ring: 0, pos: result.cachedTokens, rows: result.promptTokens - result.cachedTokens })
  const { text, tokens, logitsSha256, finishReason } = await fresh(messages)
  expect(result).toMatchObject({ text, tokens, logitsSha256, finishReason })
  expect(openRings()).toBe(1)
})

test('the same prompt once more sends one token', async () => {
  await firstTurn()
  const before = entry.frames.length
  const result = resultOf(await entry.ask(wishes([system, first])))
  expect(entry.frames[before]).toMatchObject({ pos: result.promptTokens - 1, rows: 1 })
  const { tokens, logitsSha256 } = await fresh([system, first])
  expect(result).toMatchObject({ tokens, logitsSha256 })
})

test.each([
  ['another key', {}, { owner: 'key 2' }],
  ['nobody by name', {}, { owner: undefined }],
] as const)('no reuse: %s', async (_, one, two) => {
  const messages = await firstTurn(one)
  const before = entry.frames.length
  const result = resultOf(await entry.ask(wishes(messages, { ...two, stop: ['.'] })))
  expect(result.cachedTokens).toBe(0)
  expect(entry.frames[before]).toMatchObject({ ring: 1, pos: 0 })
})

test('no reuse: more tokens than the circuit holds, because its hops had little room', async () => {
  const cramped = nodes.map((node) => ({ ...node, holder: { ...node.holder, freeKvTokens: 10 } }))
  entry = await startEntry(cleanup, model, cramped, { idle })
  const messages = await firstTurn()
  const result = resultOf(await entry.ask(wishes(messages)))
  expect(result.cachedTokens).toBe(0)
  await expect.poll(openRings).toBe(1)
})

test('no reuse: another chat with the same system message', async () => {
  await firstTurn()
  const result = resultOf(await entry.ask(wishes([system, second])))
  expect(result.cachedTokens).toBe(0)
})

test('no reuse of a circuit whose hop has gone; the next answer goes on without it', async () => {
  const spare = await startComputeNode(cleanup, model, { start: 6, end: 12 }, { decodeMs: 0.1 })
  entry = await startEntry(cleanup, model, [...nodes, spare], { idle })
  const messages = await firstTurn()
  expect(idle.size).toBe(1)
  await spare.node.stop()
  await expect.poll(() => idle.size).toBe(0)
  const result = resultOf(await entry.ask(wishes(messages)))
  expect(result.cachedTokens).toBe(0)
  const { tokens, logitsSha256 } = await fresh(messages)
  expect(result).toMatchObject({ tokens, logitsSha256 })
})

test('a hop that goes while the second turn runs', async () => {
  const spare = await startComputeNode(cleanup, model, { start: 6, end: 12 }, { decodeMs: 0.1 })
  const state = { stop: false }
  entry = await startEntry(cleanup, model, [...nodes, spare], {
    idle,
    before: ({ ring }) => (ring === 0 && state.stop ? spare.node.stop() : undefined),
  })
  const messages = await firstTurn()
  state.stop = true
  const result = resultOf(await entry.ask(wishes(messages)))
  expect(result.failovers).toBeGreaterThan(0)
  const { tokens, logitsSha256 } = await fresh(messages)
  expect(result).toMatchObject({ tokens, logitsSha256 })
})

test('few are kept, and none after clear', async () => {
  for (let chat = 0; chat < 6; chat++) {
    await entry.ask(wishes([{ role: 'user', content: `Chat ${chat}` }], { maxTokens: 2 }))
  }
  expect(idle.size).toBe(4)
  await expect.poll(openRings).toBe(4)
  await idle.clear()
  await expect.poll(openRings).toBe(0)
  await expect.poll(() => nodes.flatMap((node) => node.hops.sessions)).toEqual([])
})

test('an answer that is broken off leaves nothing', async () => {
  const stop = new AbortController()
  const other = await startEntry(cleanup, model, nodes, {
    idle,
    before: ({ frame }) => (frame === 4 ? stop.abort() : undefined),
  })
  const { error } = await other.ask(wishes([system, first], { signal: stop.signal }))
  expect(error?.code).toBe('ABORTED')
  expect(idle.size).toBe(0)
})
