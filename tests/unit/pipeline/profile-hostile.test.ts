/** A swarm that does its worst: whatever breaks, leaves, comes and lies, no circuit is opened under less than was asked. */
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { isLlmNodeError, LlmNodeError } from '../../../src/base/errors.ts'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import { type AskedProfile, clashOf, type PeerPlace } from '../../../src/coverage/path.ts'
import type { ModelSpec } from '../../../src/model/spec.ts'
import type { Ring, RingOptions } from '../../../src/onion/ring.ts'
import { createAttempts } from '../../../src/pipeline/attempts.ts'
import { type EntryDeps, type EntryModel, prepareChain } from '../../../src/pipeline/entry.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const model: EntryModel = {
  name: 'M',
  modelId: new Uint8Array(32),
  spec: { nLayers: 8, hiddenSize: 2, maxContext: 100 } as ModelSpec,
  recipe: 'f32/1',
  numericsClass: 'aa'.repeat(32),
  runner: undefined,
  localDecodeMs: null,
  endsMs: null,
}
const clock = { nowMs: () => Date.now(), monotonicMs: () => Date.now() }
const { signal } = new AbortController()

/** Eight peers: p0 to p4 may compute, p3 to p7 may relay. */
const PEERS = Array.from({ length: 8 }, (_, i) => `p${i}`)
const SPANS = [
  [0, 4],
  [4, 8],
  [0, 8],
  [0, 4],
  [4, 8],
] as const

interface Peer {
  readonly here: boolean
  readonly relays: boolean
  readonly owner: number
  /** The record that says whose it is comes only when it is looked up. */
  readonly late: boolean
  readonly dead: 'no' | 'connect' | 'refuses' | 'breaks' | 'silent' | 'unknown'
}
type World = readonly Peer[]

const peer = fc.record({
  here: fc.boolean(),
  relays: fc.boolean(),
  owner: fc.nat({ max: 5 }),
  late: fc.boolean(),
  dead: fc.constantFrom('no', 'no', 'no', 'connect', 'refuses', 'breaks', 'silent', 'unknown'),
} as const) as fc.Arbitrary<Peer>
const worlds = fc.array(fc.array(peer, { minLength: 8, maxLength: 8 }), { minLength: 2, maxLength: 6 })

function createHostileSwarm(asked: AskedProfile, trusted: ReadonlySet<string>, next: () => World) {
  let world = next()
  const lookedUp = new Set<string>()
  const opened: { shape: string; asked: AskedProfile }[] = []
  const at = (address: string) => world[PEERS.indexOf(address)]
  const placeOf = (address: string, known = lookedUp.has(address)): PeerPlace => {
    const { owner = 0, late = false } = at(address) ?? {}
    return { address, family: [], networks: late && !known ? [] : [`11.${owner}.0.0/16`] }
  }
  const guards = () => PEERS.slice(3).filter((address) => at(address)?.here && at(address)?.relays)
  const check = ({ hops }: RingOptions) => {
    const shape = hops.map(({ role }) => (role === 'relay' ? 'r' : 'c')).join('')
    const places = hops.map(({ peerId }) => placeOf(peerId, true))
    const computing = hops.filter(({ role }) => role === 'compute').map(({ peerId }) => peerId)
    if (asked === 'local-only') throw new Error('local-only opened a circuit')
    if (asked === 'guarded') expect(shape).toMatch(/^rc+r$/)
    if (asked === 'auto') expect(shape).toMatch(/^(rc+r|c+)$/)
    if (asked === 'direct') expect(shape).toMatch(/^c+$/)
    if (asked === 'trusted') {
      expect(shape).toMatch(/^c+$/)
      for (const address of computing) expect(trusted).toContain(address)
    }
    if (shape.startsWith('r')) expect(clashOf(places, { mayShare: false })).toBeUndefined()
    opened.push({ shape: shape.startsWith('r') ? 'guarded' : 'bare', asked })
  }
  const deps: EntryDeps = {
    holders: () =>
      SPANS.flatMap(([start, end], i): LayerHolder[] => {
        const address = PEERS[i] ?? ''
        if (at(address)?.here !== true) return []
        const cost = { decodeMs: 1 + i, freeKvTokens: 1_000, relayed: false, rttMs: 1, neighbourRttMs: new Map() }
        return [{ address, span: { start, end }, state: 'online', numericsClass: model.numericsClass, ...cost }]
      }),
    async contact(address) {
      lookedUp.add(address)
      if (at(address)?.dead === 'unknown') throw new LlmNodeError('PEER_UNREACHABLE', 'Nobody knows it.')
      return { addressKey: new Uint8Array(32), onionKey: new Uint8Array(32), peerId: address, addrs: [] }
    },
    async openRing(options) {
      check(options)
      const { hops, maxContext } = options
      const bad = hops.findIndex(({ peerId }) => at(peerId)?.dead !== 'no')
      if (bad >= 0) throw errorOf(at(hops[bad]?.peerId ?? '')?.dead, bad)
      const ring = { hops, maxContext, maxRows: 8, lifeS: 60, ended: new Promise(() => {}), close: async () => {} }
      return ring as unknown as Ring
    },
    prepareRing: check,
    nextChange: () =>
      new Promise((resolve) => {
        const change = () => {
          world = next()
          resolve()
        }
        setTimeout(change, 500)
      }),
    privacy: { guards: () => guards().map((address) => placeOf(address)), placeOf, trusted, mayShare: false },
  }
  return { deps, opened, change: () => (world = next()) }
}

function errorOf(how: Peer['dead'] | undefined, hop: number): LlmNodeError {
  const meta = { hop, pair: [hop - 1, hop] }
  if (how === 'refuses') return new LlmNodeError('PEER_REFUSED', 'BUSY', { meta: { ...meta, status: 'BUSY' } })
  if (how === 'breaks') return new LlmNodeError('CIRCUIT_BROKEN', 'gone', { meta })
  if (how === 'silent') return new LlmNodeError('HOP_TIMEOUT', 'nobody can be named', { meta: {} })
  return new LlmNodeError('PEER_UNREACHABLE', 'away', { meta })
}

/** Lets the waits of an attempt pass. */
async function outcome<T>(work: Promise<T>): Promise<T | LlmNodeError> {
  const settled = work.catch((error: unknown) => {
    if (isLlmNodeError(error)) return error
    throw error
  })
  await vi.advanceTimersByTimeAsync(70_000)
  return settled
}

test('profiles hold in a hostile swarm, also of circuits that are built ahead', async () => {
  const profiles = fc.constantFrom<AskedProfile>('auto', 'direct', 'guarded', 'trusted', 'local-only')
  const trust = fc.subarray(PEERS)
  let answers = 0
  await fc.assert(
    fc.asyncProperty(profiles, trust, worlds, async (asked, trusted, script) => {
      let turn = 0
      const next = () => script[Math.min(turn++, script.length - 1)] ?? []
      const swarm = createHostileSwarm(asked, new Set(trusted), next)
      const request = { maxContext: 10, solo: false, profile: asked }
      const attempts = createAttempts(model, { request, clock }, swarm.deps)
      // A chat of several answers: each breaks in turn, and the swarm is another one every time.
      for (let round = 0; round < script.length; round++) {
        const first = await outcome(attempts.open(signal))
        if (isLlmNodeError(first)) break
        answers++
        if (asked !== 'auto') expect(first.plan.profile).toBe(asked)
        attempts.worked()
        await prepareChain(model, request, { ...swarm.deps, prepareRing: () => {} })
        swarm.change()
        try {
          attempts.failed(errorOf('breaks', 0))
        } catch {
          break
        }
      }
      // `auto`: what the first circuit was, all others are.
      if (asked === 'auto') expect(new Set(swarm.opened.map(({ shape }) => shape)).size).toBeLessThanOrEqual(1)
      await prepareChain(model, request, swarm.deps)
    }),
    { numRuns: 400 },
  )
  // The swarms were not so bad that nothing was ever tried.
  expect(answers).toBeGreaterThan(40)
})
