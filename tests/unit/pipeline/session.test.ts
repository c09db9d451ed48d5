import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LlmNodeError } from '../../../src/base/errors.ts'
import type { Attempts } from '../../../src/pipeline/attempts.ts'
import type { Chain } from '../../../src/pipeline/chain.ts'
import type { OpenedChain } from '../../../src/pipeline/entry.ts'
import type { HeldChain } from '../../../src/pipeline/held-chain.ts'
import { createSession } from '../../../src/pipeline/session.ts'

const HIDDEN = 2

/** A chain that keeps what it was sent as hops do, and answers a row with a digest of all ids up to it. */
function createToyChain(breaksAfter = Number.POSITIVE_INFINITY, maxRows = 3) {
  const kv: number[] = []
  const frames: { pos: number; rows: number; want: number }[] = []
  let closed = false
  const digestAt = (length: number) => kv.slice(0, length).reduce((sum, id, i) => (sum * 31 + id * (i + 1)) % 65_521, 7)
  const chain: Chain = {
    hops: [],
    maxContext: 100,
    maxRows,
    lifeS: 3_600,
    ended: new Promise(() => {}),
    async forward({ pos, hidden, want }) {
      const rows = hidden.length / HIDDEN
      frames.push({ pos, rows, want })
      if (frames.length > breaksAfter) throw new LlmNodeError('CIRCUIT_BROKEN', 'gone')
      if (closed || pos > kv.length) throw new Error('not what a hop takes')
      kv.length = pos
      for (let row = 0; row < rows; row++) kv.push(hidden[row * HIDDEN] ?? -1)
      const wanted = Array.from({ length: want }, (_, row) => digestAt(pos + rows - want + row + 1))
      return Float32Array.from(wanted.flatMap((digest) => [digest, -digest]))
    },
    async close() {
      closed = true
    },
  }
  return { chain, frames, isClosed: () => closed }
}

const ends = { embed: async (ids: readonly number[]) => Float32Array.from(ids.flatMap((id) => [id, 0])) }

/** Chains one after the other. */
function listed(chains: readonly Chain[]): Attempts & { readonly failures: unknown[] } {
  const rest = [...chains]
  const failures: unknown[] = []
  return {
    failures,
    adopt() {},
    beside: async () => undefined,
    besideInHaste: async () => undefined,
    isSound: () => true,
    late() {},
    leaving: () => new Set(),
    async open() {
      const chain = rest.shift()
      if (chain === undefined) throw new LlmNodeError('COVERAGE_GAP', 'nobody is left')
      return { chain, plan: { longRope: false } } as OpenedChain
    },
    failed(error) {
      failures.push(error)
    },
    worked() {},
  }
}

const run = { signal: new AbortController().signal }

test('computes only what is new; what was guessed wrong is overwritten', async () => {
  const { chain, frames } = createToyChain()
  const session = createSession({ ends, attempts: listed([chain]) })
  await session.rows([1, 2, 3, 4], 1, run)
  await session.rows([1, 2, 3, 4, 5, 6, 7], 3, run)
  await session.rows([1, 2, 3, 4, 5, 9], 1, run)
  expect(frames).toEqual([
    { pos: 0, rows: 3, want: 0 },
    { pos: 3, rows: 1, want: 1 },
    { pos: 4, rows: 3, want: 3 },
    { pos: 5, rows: 1, want: 1 },
  ])
})

test('rows that are held and wanted again are computed again', async () => {
  const { chain, frames } = createToyChain()
  const session = createSession({ ends, attempts: listed([chain]) })
  const first = await session.rows([1, 2, 3], 2, run)
  expect(await session.rows([1, 2, 3], 2, run)).toEqual(first)
  expect(frames.at(-1)).toEqual({ pos: 1, rows: 2, want: 2 })
})

test('whatever breaks whenever, the rows are those of one chain', async () => {
  const ids = fc.array(fc.nat(3), { minLength: 1, maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(ids, fc.nat(4)), { minLength: 1, maxLength: 8 }),
      fc.array(fc.tuple(fc.nat(8), fc.integer({ min: 1, max: 5 })), { maxLength: 4 }),
      async (asked, breaking) => {
        const chains = breaking.map(([after, maxRows]) => createToyChain(after, maxRows))
        const session = createSession({
          ends,
          attempts: listed([...chains, createToyChain()].map(({ chain }) => chain)),
        })
        for (const [wanted, want] of asked) {
          const count = Math.min(wanted.length, want + 1)
          const calm = createSession({ ends, attempts: listed([createToyChain().chain]) })
          expect(await session.rows(wanted, count, run)).toEqual(await calm.rows(wanted, count, run))
        }
        await session.close()
      },
    ),
  )
})

test('a broken chain is closed before the next one is opened, and the failure is told', async () => {
  const broken = createToyChain(1)
  const attempts = listed([broken.chain, createToyChain().chain])
  const session = createSession({ ends, attempts })
  await session.rows([1, 2, 3, 4], 1, run)
  expect(broken.isClosed()).toBe(true)
  expect(attempts.failures).toMatchObject([{ code: 'CIRCUIT_BROKEN' }])
})

test('near the end of a circuit the session moves to another one', async () => {
  let ms = 0
  const old = createToyChain()
  const next = createToyChain()
  const clock = { nowMs: () => ms, monotonicMs: () => ms }
  const session = createSession({ ends, attempts: listed([old.chain, next.chain]), clock })
  await session.rows([1, 2], 1, run)
  ms = 54 * 60_000
  await session.rows([1, 2, 3], 1, run)
  expect(next.frames).toEqual([])
  ms = 56 * 60_000
  await session.rows([1, 2, 3, 4], 1, run)
  expect(old.isClosed()).toBe(true)
  expect(next.frames[0]?.pos).toBe(0)
})

test('a released chain goes on in another session and is not closed by the first', async () => {
  const { chain, frames, isClosed } = createToyChain()
  const first = createSession({ ends, attempts: listed([chain]) })
  await first.rows([1, 2, 3], 1, run)
  const held = first.release()
  await first.close()
  expect(isClosed()).toBe(false)
  const second = createSession({ ends, attempts: listed([]), held })
  await second.rows([1, 2, 3, 4], 1, run)
  expect(frames.at(-1)).toEqual({ pos: 3, rows: 1, want: 1 })
})

test('beyond the short factors of a longrope model everything is computed anew, with the long ones', async () => {
  const chains = [createToyChain(), createToyChain()]
  const asked: boolean[] = []
  const attempts: Attempts = {
    ...listed([]),
    async open(_, { longRope } = { longRope: false }) {
      asked.push(longRope)
      return { chain: chains[asked.length - 1]?.chain, plan: { longRope } } as OpenedChain
    },
  }
  const session = createSession({ ends, attempts, shortLimit: 4 })
  await session.rows([1, 2, 3], 1, run)
  expect(session.frameEnd(3)).toBe(4)
  await session.rows([1, 2, 3, 4], 1, run)
  expect(session.frameEnd(5)).toBe(100)
  await session.rows([1, 2, 3, 4, 5], 1, run)
  expect(asked).toEqual([false, true])
  expect(chains[0]?.isClosed()).toBe(true)
  expect(chains[1]?.frames[0]).toMatchObject({ pos: 0, rows: 3 })
})

test.each(['before', 'after'])('a second chain that is ready %s the first one has won is closed', async (when) => {
  const first = createToyChain()
  const late = createToyChain()
  const hangs = { ...late.chain, forward: () => new Promise<never>(() => {}) }
  const opened = { chain: hangs as Chain, plan: { longRope: false } } as OpenedChain
  const second: HeldChain = { opened, ids: [], openedMs: 0 }
  const asked = Promise.withResolvers<void>()
  const ready = Promise.withResolvers<HeldChain>()
  const standby = {
    tend() {},
    takeMoved: () => undefined,
    take: async () => undefined,
    second() {
      asked.resolve()
      return ready.promise
    },
    close: async () => {},
  }
  const chain: Chain = {
    ...first.chain,
    async forward(frame) {
      await asked.promise
      if (when === 'before') ready.resolve(second)
      await setImmediate()
      return first.chain.forward(frame)
    },
  }
  const session = createSession({ ends, attempts: listed([chain]), standby, hedge: true })
  await session.rows([1, 2], 1, run)
  ready.resolve(second)
  await setImmediate()
  await session.close()
  expect(late.isClosed()).toBe(true)
})
