/** Circuits of chats over real sockets: one for all turns of a chat, another for each chat, and the next one built ahead. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { createIdleChains } from '../../src/pipeline/idle-chains.ts'
import { createCleanup } from './p2p-helpers.ts'
import {
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

beforeAll(async () => {
  model = await openTestModel(lasting)
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

interface Setting {
  readonly nodes: readonly ComputeNode[]
  readonly entry: TestEntry
  /** Relays that are there, in the order of preference. */
  readonly present: ComputeNode[]
}

async function guardedSetting(): Promise<Setting> {
  const start = (from: number, to: number) => startComputeNode(cleanup, model, { start: from, end: to })
  const [nodes, relays] = await Promise.all([
    Promise.all([start(0, 6), start(6, 12)]),
    Promise.all([start(0, 6), start(0, 6), start(0, 6)]),
  ])
  const present = [...relays]
  const placeOf = (address: string) => ({ address, family: [], networks: [] })
  const guards = () => present.map(({ holder }) => placeOf(holder.address))
  const idle = createIdleChains()
  cleanup.add(() => idle.clear())
  const privacy = { guards, placeOf, trusted: new Set<string>(), mayShare: false }
  const entry = await startEntry(cleanup, model, nodes, { relays, privacy, idle, ahead: true })
  return { nodes, entry, present }
}

const turn = (...texts: string[]) => ({
  owner: 'me',
  profile: 'guarded' as const,
  maxTokens: 3,
  prompt: {
    messages: texts.map((content, i) => ({ role: i % 2 === 0 ? ('user' as const) : ('assistant' as const), content })),
  },
})
const ringsUsed = ({ frames }: TestEntry) => new Set(frames.map(({ ring }) => ring)).size
const aheadIsThere = ({ entry }: Setting) =>
  expect.poll(() => entry.onion.stats().readyRings, { timeout: 5_000 }).toBe(1)
const sessions = ({ nodes }: Setting) => nodes.flatMap(({ hops }) => hops.sessions.length)

test('turns share a circuit, chats do not, and the circuit of the next chat stands before it begins', async () => {
  const setting = await guardedSetting()
  const { entry } = setting
  const first = await entry.ask(turn('one two'))
  expect(first.result?.profile).toBe('guarded')
  await aheadIsThere(setting)
  // It holds no KV of anybody.
  expect(sessions(setting)).toEqual([1, 1])
  await entry.ask(turn('one two', first.result?.text ?? '', 'three'))
  expect(ringsUsed(entry)).toBe(1)
  expect(entry.onion.stats()).toMatchObject({ openRings: 1, readyRings: 1 })

  const other = await entry.ask(turn('another chat'))
  expect(other.result?.profile).toBe('guarded')
  expect(ringsUsed(entry)).toBe(2)
  expect(sessions(setting)).toEqual([2, 2])
  await aheadIsThere(setting)
  const hops = setting.nodes.map(({ onion }) => onion.stats().computeCircuits)
  expect(hops).toEqual([3, 3])
})

test('a circuit built ahead is not used when its guards are not there any more, or another profile is asked for', async () => {
  const setting = await guardedSetting()
  const { entry, present, nodes } = setting
  await entry.ask(turn('one two'))
  await aheadIsThere(setting)
  const [gone] = present.splice(0, 1)
  const relayed = () => gone?.onion.stats().relayCircuits
  expect(relayed()).toBe(2)
  const next = await entry.ask(turn('a second chat'))
  expect(next.result?.profile).toBe('guarded')
  // The old way keeps the first chat and the circuit that stands; nothing of the second chat is on it.
  expect(relayed()).toBe(2)
  const direct = await entry.ask({ ...turn('a third chat'), profile: 'direct' })
  expect(direct.result?.profile).toBe('direct')
  expect(nodes.map(({ onion }) => onion.stats().computeCircuits).every((count) => count >= 3)).toBe(true)
})
