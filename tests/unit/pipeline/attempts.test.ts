import { expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { type ErrorCode, LlmNodeError } from '../../../src/base/errors.ts'
import { pipelineLimits } from '../../../src/base/limits.ts'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import type { ModelSpec } from '../../../src/model/spec.ts'
import type { Ring, RingOptions } from '../../../src/onion/ring.ts'
import { createAttempts, type WayNews } from '../../../src/pipeline/attempts.ts'
import type { EntryDeps, EntryModel } from '../../../src/pipeline/entry.ts'
import { AVOIDED_MS, createExclusions } from '../../../src/pipeline/exclusions.ts'

const MINE = 'aa'.repeat(32)
const OTHER = 'bb'.repeat(32)

const model: EntryModel = {
  name: 'M',
  modelId: new Uint8Array(32),
  spec: { nLayers: 8, hiddenSize: 2, maxContext: 100 } as ModelSpec,
  recipe: 'f32/1',
  numericsClass: MINE,
  runner: undefined,
  localDecodeMs: null,
  endsMs: null,
}

function holder(address: string, start: number, end: number, more: Partial<LayerHolder> = {}): LayerHolder {
  return {
    address,
    span: { start, end },
    state: 'online',
    numericsClass: MINE,
    decodeMs: 1,
    freeKvTokens: 1_000,
    relayed: false,
    rttMs: 1,
    neighbourRttMs: new Map(),
    ...more,
  }
}

/** A network in which the peers of `dead` cannot be reached; what was tried, as "a b". */
function createNetwork(holders: readonly LayerHolder[], dead: Set<string> = new Set()) {
  const tried: string[] = []
  const classes: string[] = []
  const deps: EntryDeps = {
    random: () => 0,
    holders: () => holders,
    contact: async (address) => ({
      addressKey: new Uint8Array(32),
      onionKey: new Uint8Array(32),
      peerId: address,
      addrs: [],
    }),
    async openRing({ hops, maxContext, numericsClass }: RingOptions) {
      tried.push(hops.map((hop) => hop.peerId).join(' '))
      classes.push(Buffer.from(numericsClass).toString('hex'))
      const hop = hops.findIndex(({ peerId }) => dead.has(peerId))
      if (hop >= 0) throw brokenAt(hop)
      return {
        hops,
        maxContext,
        maxRows: 8,
        lifeS: 60,
        ended: new Promise(() => {}),
        close: async () => {},
      } as unknown as Ring
    },
  }
  return { deps, tried, classes, dead }
}

function brokenAt(hop: number, code: ErrorCode = 'PEER_UNREACHABLE', more: Record<string, string> = {}): LlmNodeError {
  return new LlmNodeError(code, `hop ${hop}`, {
    meta: { hop, pair: [hop - 1, hop], start: 4 * hop, end: 4 * hop + 4, ...more },
  })
}

const { signal } = new AbortController()
const request = { maxContext: 10, solo: false }

test('goes around what does not answer, with neither end of the failed link where that costs little', async () => {
  const holders = [
    holder('a', 0, 4),
    holder('a2', 0, 4, { decodeMs: 2 }),
    holder('b', 4, 8),
    holder('b2', 4, 8, { decodeMs: 5 }),
  ]
  const { deps, tried } = createNetwork(holders, new Set(['b']))
  const attempts = createAttempts(model, { request }, deps)
  await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a2 b2'])
})

test('around the peer at once, also where everything else costs much more', async () => {
  const holders = [
    holder('a', 0, 4),
    holder('a2', 0, 4, { decodeMs: 20 }),
    holder('b', 4, 8),
    holder('b2', 4, 8, { decodeMs: 50 }),
  ]
  const { deps, tried } = createNetwork(holders, new Set(['b']))
  const news: WayNews[] = []
  const attempts = createAttempts(model, { request, onNews: (each) => news.push(each) }, deps)
  const { chain } = await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a b2'])
  expect(chain.hops.map(({ address }) => address)).toEqual(['a', 'b2'])
  expect(news).toMatchObject([{ type: 'failover', reason: 'PEER_UNREACHABLE' }])
})

test('around the link alone where there is nobody else behind it', async () => {
  const { deps, tried } = createNetwork([holder('a', 0, 4), holder('a2', 0, 4, { decodeMs: 20 }), holder('b', 4, 8)])
  const cut: EntryDeps = {
    ...deps,
    async openRing(options, run) {
      const ring = await deps.openRing(options, run)
      if (options.hops[0]?.peerId === 'a') throw brokenAt(1)
      return ring
    },
  }
  const { chain } = await createAttempts(model, { request }, cut).open(signal)
  expect(tried).toEqual(['a b', 'a2 b'])
  expect(chain.hops.map(({ address }) => address)).toEqual(['a2', 'b'])
})

test('a chain in use that breaks is followed by one without the broken link, with the same context', async () => {
  const { deps, tried } = createNetwork([holder('a', 0, 8), holder('a2', 0, 8, { decodeMs: 2 })])
  const attempts = createAttempts(model, { request: { ...request, roomyContext: 50 } }, deps)
  const first = await attempts.open(signal)
  expect(first.chain.maxContext).toBe(50)
  attempts.failed(brokenAt(0, 'HOP_TIMEOUT'))
  expect((await attempts.open(signal)).chain.maxContext).toBe(50)
  expect(tried).toEqual(['a', 'a2'])
})

test('who refuses is left out, whoever asks it', async () => {
  const holders = [
    holder('a', 0, 4),
    holder('a2', 0, 4, { decodeMs: 2 }),
    holder('b', 4, 8),
    holder('b2', 4, 8, { decodeMs: 9 }),
  ]
  const { deps, tried } = createNetwork(holders)
  const attempts = createAttempts(model, { request }, deps)
  await attempts.open(signal)
  attempts.failed(brokenAt(1, 'PEER_REFUSED', { status: 'KV_FULL' }))
  await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a b2'])
})

test('an answer goes on in the class in which it began', async () => {
  const holders = [
    holder('mine', 0, 8),
    holder('other', 0, 8, { numericsClass: OTHER, decodeMs: 0.1 }),
    holder('mine2', 0, 8, { decodeMs: 9 }),
  ]
  const { deps, tried, classes } = createNetwork(holders)
  const attempts = createAttempts(model, { request }, deps)
  expect((await attempts.open(signal)).exact).toBe(true)
  attempts.failed(brokenAt(0))
  expect((await attempts.open(signal)).exact).toBe(true)
  expect(tried).toEqual(['mine', 'mine2'])
  expect(new Set(classes)).toEqual(new Set([MINE]))
})

test('after five ways it is enough, with the error of the last one', async () => {
  const holders = Array.from({ length: 8 }, (_, i) => holder(`p${i}`, 0, 8, { decodeMs: i + 1 }))
  const { deps, tried } = createNetwork(holders, new Set(holders.map(({ address }) => address)))
  const attempts = createAttempts(model, { request }, deps)
  await expect(attempts.open(signal)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  expect(tried).toEqual(['p0', 'p1', 'p2', 'p3', 'p4'])
})

test('a minute is enough as well; an answer in between begins it anew', async () => {
  let ms = 0
  const clock = { nowMs: () => ms, monotonicMs: () => ms }
  const { deps } = createNetwork(Array.from({ length: 8 }, (_, i) => holder(`p${i}`, 0, 8)))
  const attempts = createAttempts(model, { request, clock }, deps)
  await attempts.open(signal)
  attempts.failed(brokenAt(0))
  ms += 59_000
  attempts.failed(brokenAt(0))
  attempts.worked()
  ms += 59_000
  attempts.failed(brokenAt(0))
  ms += 60_000
  expect(() => attempts.failed(brokenAt(0))).toThrow('hop 0')
})

test('what another way cannot mend ends the answer', async () => {
  const { deps } = createNetwork([holder('a', 0, 8), holder('b', 0, 8)])
  const attempts = createAttempts(model, { request }, deps)
  await attempts.open(signal)
  for (const code of ['ENGINE_FAILED', 'CONTEXT_TOO_LONG', 'LIMIT', 'ABORTED'] as const) {
    expect(() => attempts.failed(new LlmNodeError(code, 'no'))).toThrow('no')
  }
})

test('a gap from the start is told at once', async () => {
  const { deps } = createNetwork([holder('a', 0, 4)])
  await expect(createAttempts(model, { request }, deps).open(signal)).rejects.toMatchObject({
    code: 'COVERAGE_GAP',
    meta: { layers: ['4-7'] },
  })
})

test('who failed and is the only one is tried once more; if it is back, the answer goes on', async () => {
  const { deps, tried } = createNetwork([holder('a', 0, 4), holder('b', 4, 8)])
  const attempts = createAttempts(model, { request }, deps)
  await attempts.open(signal)
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a b'])
})

test('when everything has failed, what failed longest ago is tried first, and nothing twice', async () => {
  let ms = 0
  const clock = { nowMs: () => ms, monotonicMs: () => ms }
  const holders = [holder('a', 0, 4), holder('b', 4, 8), holder('b2', 4, 8, { decodeMs: 2 })]
  const { deps, tried, dead } = createNetwork(holders)
  const attempts = createAttempts(model, { request, clock }, deps)
  await attempts.open(signal)
  attempts.worked()
  ms += 1
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  await attempts.open(signal)
  attempts.worked()
  ms += 1
  dead.add('b2')
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a b2', 'a b'])
  dead.add('b')
  attempts.worked()
  ms += 1
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  setTimeout(() => {
    ms += 3_000
  }, 50)
  await expect(attempts.open(signal)).rejects.toMatchObject({ code: 'COVERAGE_GAP', meta: { layers: ['4-7'] } })
  expect(tried.slice(3)).toEqual(['a b2', 'a b'])
})

test('every way is tried before it is said that nobody answers, however long the first one took', async () => {
  let ms = 0
  const clock = { nowMs: () => ms, monotonicMs: () => ms }
  const holders = [holder('a', 0, 4), holder('b', 4, 8), holder('b2', 4, 8, { decodeMs: 2 })]
  const { deps, tried, dead } = createNetwork(holders)
  const news: WayNews[] = []
  const slow: EntryDeps = {
    ...deps,
    openRing(options, run) {
      ms += 2_500
      return deps.openRing(options, run)
    },
  }
  const attempts = createAttempts(model, { request, clock, suspendMs: 60_000, onNews: (each) => news.push(each) }, slow)
  await attempts.open(signal)
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  dead.add('b')
  await attempts.open(signal)
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  await attempts.open(signal)
  expect(tried).toEqual(['a b', 'a b2', 'a b', 'a b2'])
  expect(news.map(({ type }) => type)).not.toContain('suspended')
})

test('a gap that somebody fills within the grace', async () => {
  const holders = [holder('a', 0, 4), holder('b', 4, 8)]
  const { deps, tried, dead } = createNetwork(holders)
  let tell = () => {}
  const nextChange = () => new Promise<void>((resolve) => (tell = resolve))
  const attempts = createAttempts(model, { request }, { ...deps, nextChange })
  await attempts.open(signal)
  dead.add('b')
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  const opened = attempts.open(signal)
  await expect.poll(() => tried.length).toBe(2)
  holders.push(holder('late', 4, 8))
  tell()
  expect((await opened).chain.hops.map(({ address }) => address)).toEqual(['a', 'late'])
})

test('a gap that nobody fills names its layers, and can be broken off', async () => {
  const { deps, dead } = createNetwork([holder('a', 0, 4), holder('b', 4, 8)])
  const attempts = createAttempts(model, { request }, deps)
  await attempts.open(signal)
  dead.add('b')
  attempts.failed(brokenAt(1, 'CIRCUIT_BROKEN'))
  const gone = AbortSignal.timeout(50)
  await expect(attempts.open(gone)).rejects.toMatchObject({ code: 'ABORTED' })
  await expect(attempts.open(signal)).rejects.toMatchObject({ code: 'COVERAGE_GAP', meta: { layers: ['4-7'] } })
})

test('after five ways over what is gone an answer waits for somebody, where it may, and goes on with them', async () => {
  let ms = 0
  const clock = { nowMs: () => ms, monotonicMs: () => ms }
  const holders = Array.from({ length: 5 }, (_, i) => holder(`p${i}`, 0, 8, { decodeMs: i + 1 }))
  const { deps, tried } = createNetwork(holders, new Set(holders.map(({ address }) => address)))
  let tell = () => {}
  const nextChange = () => new Promise<void>((resolve) => (tell = resolve))
  const news: string[] = []
  const onNews = ({ type }: WayNews) => {
    news.push(type)
    if (type !== 'suspended') return
    holders.push(holder('late', 0, 8))
    setTimeout(() => tell(), 0)
  }
  const attempts = createAttempts(model, { request, clock, suspendMs: 60_000, onNews }, { ...deps, nextChange })
  const opening = attempts.open(signal)
  await expect.poll(() => tried.length).toBe(5)
  // Nothing that failed is tried again before that.
  ms += 2_000
  tell()
  expect((await opening).chain.hops.map(({ address }) => address)).toEqual(['late'])
  attempts.worked()
  expect(tried).toEqual(['p0', 'p1', 'p2', 'p3', 'p4', 'late'])
  expect(news).toEqual([...Array(5).fill('failover'), 'suspended', 'continued'])
})

test('after five ways it is enough where a sixth one has not failed, however long it may wait', async () => {
  const holders = Array.from({ length: 6 }, (_, i) => holder(`p${i}`, 0, 8, { decodeMs: i + 1 }))
  const { deps, tried } = createNetwork(holders, new Set(holders.map(({ address }) => address)))
  const attempts = createAttempts(model, { request, suspendMs: 60_000 }, deps)
  await expect(attempts.open(signal)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  expect(tried).toHaveLength(5)
})

test('a way that had failed and is tried again is none of the five', async () => {
  const holders = [holder('p0', 0, 8), holder('p1', 0, 8, { decodeMs: 2 })]
  const { deps, tried, dead } = createNetwork(holders)
  const late = ['n0', 'n1', 'n2'].map((name, i) => holder(name, 0, 8, { decodeMs: 3 + i }))
  const growing: EntryDeps = {
    ...deps,
    openRing(options, run) {
      if (tried.length === 3) holders.push(...late)
      return deps.openRing(options, run)
    },
  }
  const attempts = createAttempts(model, { request }, growing)
  await attempts.open(signal)
  attempts.worked()
  for (const name of ['p0', 'p1', 'n0', 'n1']) dead.add(name)
  attempts.failed(brokenAt(0, 'CIRCUIT_BROKEN'))
  const { chain } = await attempts.open(signal)
  expect(chain.hops.map(({ address }) => address)).toEqual(['n2'])
  expect(tried).toEqual(['p0', 'p1', 'p0', 'p1', 'n0', 'n1', 'n2'])
})

test('when only a relay leaves, the same hop computes again behind another one', async () => {
  const leaving = new Set<string>()
  const place = (address: string) => ({ address, family: [], networks: [] })
  const relays = ['r0', 'r1', 'r2'].map((address) => ({ ...place(address), computes: false }))
  const { deps, tried } = createNetwork([holder('a', 0, 8)])
  const privacy: EntryDeps['privacy'] = {
    trusted: new Set(),
    guards: () => relays.filter(({ address }) => !leaving.has(address)).slice(0, 2),
    placeOf: place,
    mayShare: false,
    isLeaving: (address) => leaving.has(address),
  }
  const guarded = { ...request, profile: 'guarded' as const }
  const attempts = createAttempts(model, { request: guarded }, { ...deps, privacy })
  await attempts.open(signal)
  expect(attempts.leaving()).toEqual(new Set())
  const [first = ''] = tried[0]?.split(' ') ?? []
  leaving.add(first)
  expect(attempts.leaving()).toEqual(leaving)
  expect(await attempts.beside(signal, { without: leaving })).toBeDefined()
  expect(tried).toHaveLength(2)
  expect(tried[1]?.split(' ')).toEqual(expect.arrayContaining(['a', 'r2']))
  expect(tried[1]).not.toContain(first)
})

test('where building takes too long another way is built beside it, and the place where it was held up is left out', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const holders = [holder('a', 0, 4), holder('b', 4, 8), holder('b2', 4, 8, { decodeMs: 2 })]
    const { deps, tried } = createNetwork(holders)
    const broken: string[] = []
    const exclusions = createExclusions(systemClock)
    const frozen: EntryDeps = {
      ...deps,
      exclusions,
      openRing(options, run) {
        const at = options.hops.findIndex(({ peerId }) => peerId === 'b')
        if (at < 0) return deps.openRing(options, run)
        tried.push(options.hops.map(({ peerId }) => peerId).join(' '))
        return new Promise((_, reject) =>
          run.signal.addEventListener('abort', () => {
            broken.push('b')
            reject(brokenAt(at, 'ABORTED'))
          }),
        )
      },
    }
    const news: WayNews[] = []
    const attempts = createAttempts(model, { request, onNews: (each) => news.push(each) }, frozen)
    const opening = attempts.open(signal)
    await vi.advanceTimersByTimeAsync(pipelineLimits.lateToOpenMs - 1)
    expect(tried).toEqual(['a b'])
    // Beyond what its links may take.
    await vi.advanceTimersByTimeAsync(2 * pipelineLimits.lateToOpenMs)
    const { chain } = await opening
    expect(chain.hops.map(({ address }) => address)).toEqual(['a', 'b2'])
    expect(broken).toEqual(['b'])
    // It did not fail: nothing had begun on it.
    expect(news).toEqual([])
    expect(exclusions.penaltyMs('a', 'b')).toBeGreaterThanOrEqual(AVOIDED_MS)
    expect(exclusions.penaltyMs('a', 'b2')).toBeLessThan(AVOIDED_MS)
  } finally {
    vi.useRealTimers()
  }
})

test('around whoever holds the building up, over hops that only wait for it, and at last over who has failed before', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const slow = { decodeMs: 2 }
    const holders = [holder('a', 0, 4), holder('a2', 0, 4, slow), holder('b', 4, 8), holder('b2', 4, 8, slow)]
    const { deps, tried } = createNetwork(holders, new Set(['a2']))
    const exclusions = createExclusions(systemClock)
    for (const address of ['a2', 'b2']) exclusions.add({ what: 'peer', address })
    const frozen: EntryDeps = {
      ...deps,
      exclusions,
      openRing(options, call) {
        const at = options.hops.findIndex(({ peerId }) => peerId === 'b')
        if (at < 0) return deps.openRing(options, call)
        tried.push(options.hops.map(({ peerId }) => peerId).join(' '))
        call.onWaiting?.([at])
        return new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(brokenAt(at, 'ABORTED'))))
      },
    }
    const attempts = createAttempts(model, { request }, frozen)
    const opening = attempts.open(signal)
    await vi.advanceTimersByTimeAsync(3 * pipelineLimits.lateToOpenMs)
    const { chain } = await opening
    expect(chain.hops.map(({ address }) => address)).toEqual(['a', 'b2'])
    expect(tried).toEqual(['a b', 'a b2'])
  } finally {
    vi.useRealTimers()
  }
})

test('where the way beside is late, too, a third one is begun', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const bs = ['b', 'b2', 'b3'].map((name, at) => holder(name, 4, 8, { decodeMs: 1 + at }))
    const { deps, tried } = createNetwork([holder('a', 0, 4), ...bs])
    const frozen: EntryDeps = {
      ...deps,
      openRing(options, call) {
        const name = options.hops[1]?.peerId
        if (name === 'b3') return deps.openRing(options, call)
        tried.push(options.hops.map(({ peerId }) => peerId).join(' '))
        call.onWaiting?.([1])
        return new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(brokenAt(1, 'ABORTED'))))
      },
    }
    const attempts = createAttempts(model, { request }, frozen)
    const opening = attempts.open(signal)
    await vi.advanceTimersByTimeAsync(6 * pipelineLimits.lateToOpenMs)
    const { chain } = await opening
    expect(chain.hops.map(({ address }) => address)).toEqual(['a', 'b3'])
    expect(tried).toEqual(['a b', 'a b2', 'a b3'])
  } finally {
    vi.useRealTimers()
  }
})

test('when all are late, the first of them that stands is taken', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const { deps, tried } = createNetwork([holder('a', 0, 8), holder('a2', 0, 8, { decodeMs: 2 })])
    const slow: EntryDeps = {
      ...deps,
      async openRing(options, call) {
        await new Promise((resolve) => setTimeout(resolve, 8 * pipelineLimits.lateToOpenMs))
        return deps.openRing(options, call)
      },
    }
    const opening = createAttempts(model, { request }, slow).open(signal)
    await vi.advanceTimersByTimeAsync(9 * pipelineLimits.lateToOpenMs)
    const { chain } = await opening
    expect(chain.hops.map(({ address }) => address)).toEqual(['a'])
    expect(tried).toEqual(['a'])
  } finally {
    vi.useRealTimers()
  }
})
