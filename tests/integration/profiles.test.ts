/** Profiles over real sockets: who is dialled, what is computed, and that nothing is sent under less than was asked. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createChatProfiles } from '../../src/pipeline/chat-profiles.ts'
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
/** Hold layers: 0–6, 6–12, and 6–12 again. */
let nodes: ComputeNode[]
/** Could hold layers, too, but are known to the entry only as relays. */
let relays: ComputeNode[]
let present: ComputeNode[]
let trusted: Set<string>
let entry: TestEntry

beforeAll(async () => {
  model = await openTestModel(lasting)
})
beforeEach(async () => {
  const start = (from: number, to: number) => startComputeNode(cleanup, model, { start: from, end: to })
  nodes = await Promise.all([start(0, 6), start(6, 12), start(6, 12)])
  relays = await Promise.all([start(0, 6), start(0, 6), start(0, 6)])
  present = [...relays]
  trusted = new Set()
  const placeOf = (address: string) => ({ address, family: [], networks: [] })
  const guards = () => present.map(({ holder }) => placeOf(holder.address))
  const privacy = { guards, placeOf, trusted, mayShare: false }
  entry = await startEntry(cleanup, model, nodes, { relays, privacy, chats: createChatProfiles() })
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

const short = { maxTokens: 4, prompt: { messages: [{ role: 'user' as const, content: 'one two' }] } }
const peersOf = (list: readonly ComputeNode[]) => list.map(({ node }) => node.self.peerId)
const connectedTo = () => new Set(entry.node.connections().map(({ peerId }) => peerId))
const stop = (node: ComputeNode | undefined) => node?.node.stop()

describe('guarded', () => {
  test('gives the answer of direct, and the entry never meets a compute hop', async () => {
    const guarded = await entry.ask({ ...short, profile: 'guarded' })
    expect(guarded.error).toBeUndefined()
    expect(guarded.result?.profile).toBe('guarded')
    const met = connectedTo()
    expect(peersOf(relays).filter((peer) => met.has(peer))).toHaveLength(2)
    expect(peersOf(nodes).filter((peer) => met.has(peer))).toEqual([])
    const direct = await entry.ask({ ...short, profile: 'direct' })
    expect(direct.result?.profile).toBe('direct')
    expect(direct.result?.logitsSha256).toEqual(guarded.result?.logitsSha256)
    // The check above can fail: a direct one does meet them.
    expect(peersOf(nodes).some((peer) => connectedTo().has(peer))).toBe(true)
  })

  test('without two relays nothing is sent, and the error says what to do', async () => {
    present = present.slice(0, 1)
    const { error } = await entry.ask({ ...short, profile: 'guarded' })
    expect(error?.code).toBe('NO_RELAY')
    expect(error?.hint).toMatch(/--profile direct/)
    expect(entry.frames).toEqual([])
    expect(connectedTo().size).toBe(0)
  })

  test('a relay that is dead is left out for another', async () => {
    await stop(relays[0])
    const { result, events } = await entry.ask({ ...short, profile: 'guarded' })
    expect(result?.profile).toBe('guarded')
    expect(events.filter(({ type }) => type === 'failover').length).toBeGreaterThan(0)
    expect(peersOf(nodes).filter((peer) => connectedTo().has(peer))).toEqual([])
  })
})

describe('auto', () => {
  test('is guarded with relays, direct without', async () => {
    expect((await entry.ask({ ...short, profile: 'auto' })).result?.profile).toBe('guarded')
    present = []
    expect((await entry.ask({ ...short, profile: 'auto' })).result?.profile).toBe('direct')
  })

  test('does not fall when every relay dies under a generation', async () => {
    let killed = false
    const privacy = entry.deps.privacy
    const dying = await startEntry(cleanup, model, nodes, {
      relays,
      ...(privacy === undefined ? {} : { privacy }),
      async before({ frame }) {
        if (frame < 2 || killed) return
        killed = true
        present = []
        await Promise.all(relays.map(stop))
      },
    })
    const { error, result } = await dying.ask({ ...short, maxTokens: 12, profile: 'auto', suspendMs: 0 })
    expect(killed).toBe(true)
    expect(result).toBeUndefined()
    expect(error?.code).toBe('NO_RELAY')
    const met = new Set(dying.node.connections().map(({ peerId }) => peerId))
    expect(peersOf(nodes).filter((peer) => met.has(peer))).toEqual([])
  })

  test('does not fall between the turns of a chat either', async () => {
    const turn = { ...short, profile: 'auto' as const, owner: 'someone' }
    expect((await entry.ask(turn)).result?.profile).toBe('guarded')
    present = []
    expect((await entry.ask(turn)).error?.code).toBe('NO_RELAY')
    // Somebody else's chat begins anew.
    expect((await entry.ask({ ...turn, owner: 'other' })).result?.profile).toBe('direct')
  })
})

describe('trusted', () => {
  test('only listed addresses compute', async () => {
    for (const node of [nodes[0], nodes[2]]) trusted.add(node?.holder.address ?? '')
    const { result } = await entry.ask({ ...short, profile: 'trusted' })
    expect(result?.profile).toBe('trusted')
    expect(result?.hops.map(({ address }) => address)).toEqual([nodes[0]?.holder.address, nodes[2]?.holder.address])
  })

  test('is an error when they do not hold everything', async () => {
    trusted.add(nodes[0]?.holder.address ?? '')
    const { error } = await entry.ask({ ...short, profile: 'trusted' })
    expect(error?.code).toBe('COVERAGE_GAP')
    expect(error?.message).toMatch(/6-11.*none of the 1 addresses that you trust/)
    expect(connectedTo().size).toBe(0)
  })
})

test('local-only asks nobody', async () => {
  const { error } = await entry.ask({ ...short, profile: 'local-only' })
  expect(error?.code).toBe('NOT_SET_UP')
  expect(connectedTo().size).toBe(0)
})
