import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Drafter } from '../../../src/pipeline/drafter.ts'
import { type GenerateRequest, generate, type TokenSession } from '../../../src/pipeline/generate.ts'
import { neutralSampling } from '../../../src/pipeline/sampler.ts'

const VOCABULARY = 5

/** A model whose logits depend on everything before, and which likes to repeat itself. */
function logitsAfter(ids: readonly number[]): Float32Array {
  let hash = 2166136261
  for (const id of ids.slice(-3)) hash = Math.imul(hash ^ (id + 1), 16777619) >>> 0
  return Float32Array.from({ length: VOCABULARY }, (_, id) => ((hash >>> (4 * id)) % 16) / 4)
}

/** A session whose "rows" are the logits themselves. */
function createToySession(maxContext: number): TokenSession & { readonly asked: [ids: number, want: number][] } {
  const asked: [number, number][] = []
  return {
    maxContext,
    asked,
    frameEnd: () => maxContext,
    async rows(ids, want) {
      asked.push([ids.length, want])
      if (ids.length > maxContext) throw new Error('beyond the context')
      const rows = Array.from({ length: want }, (_, row) => logitsAfter(ids.slice(0, ids.length - want + row + 1)))
      return Float32Array.from(rows.flatMap((row) => [...row]))
    },
  }
}

const ends = { logits: async (rows: Float32Array) => rows }

/** Proposes these drafts one after the other, cut at the room. */
function scripted(drafts: readonly (readonly number[])[]): Drafter & { readonly learnt: { accepted: number }[] } {
  const rest = [...drafts]
  const learnt: { accepted: number }[] = []
  const propose = (_: readonly number[], room: number) => (rest.shift() ?? []).slice(0, Math.max(0, room))
  return { drafted: 0, accepted: 0, learnt, propose, learn: (step) => void learnt.push(step) }
}

async function run(request: GenerateRequest, drafter: Drafter | undefined, maxContext = 64) {
  const session = createToySession(maxContext)
  const logits: string[] = []
  const tokens: number[] = []
  const onLogits = (index: number, row: Float32Array) => void logits.push(`${index}:${row}`)
  const generated = generate(request, { ends, session, drafter, onLogits })
  for (;;) {
    const next = await generated.next()
    if (next.done) return { tokens, logits, reason: next.value, asked: session.asked }
    expect(next.value.index).toBe(tokens.length)
    tokens.push(next.value.id)
  }
}

const request: GenerateRequest = {
  promptIds: [1, 2],
  maxTokens: 20,
  sampling: { ...neutralSampling, seed: 7, nTokens: VOCABULARY },
  endTokens: [],
}

test('drafts change neither a token nor the logits it is drawn from, nor why the answer ends', async () => {
  const ids = fc.integer({ min: 0, max: VOCABULARY - 1 })
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        promptIds: fc.array(ids, { minLength: 1, maxLength: 6 }),
        maxTokens: fc.integer({ min: 1, max: 24 }),
        endTokens: fc.array(ids, { maxLength: 1 }),
        seed: fc.nat(1000),
        temperature: fc.constantFrom(0, 0.7, 1),
        repetitionPenalty: fc.constantFrom(1, 1.3),
        frequencyPenalty: fc.constantFrom(0, 0.5),
        maxContext: fc.integer({ min: 8, max: 40 }),
        drafts: fc.array(fc.array(ids, { maxLength: 8 }), { maxLength: 24 }),
      }),
      async ({ promptIds, maxTokens, endTokens, maxContext, drafts, ...wishes }) => {
        const sampling = { ...neutralSampling, ...wishes, nTokens: VOCABULARY }
        const each = { promptIds, maxTokens, endTokens, sampling }
        const plain = await run(each, undefined, maxContext)
        const drafted = await run(each, scripted(drafts), maxContext)
        expect({ ...drafted, asked: 0 }).toEqual({ ...plain, asked: 0 })
      },
    ),
    { numRuns: 300 },
  )
})

test('a right draft saves steps, a wrong one none, and the drafter is told', async () => {
  const plain = await run(request, undefined)
  const [first = 0, second = 0, third = 0, fourth = 0] = plain.tokens
  const wrong = (fourth + 1) % VOCABULARY
  const drafter = scripted([[second, third, wrong]])
  const drafted = await run(request, drafter)
  expect(drafted.tokens).toEqual(plain.tokens)
  expect(plain.asked).toHaveLength(20)
  expect(drafted.asked).toHaveLength(18)
  expect(drafted.asked[1]).toEqual([2 + 1 + 3, 4])
  expect(drafted.asked[2]).toEqual([2 + 4, 1])
  expect(drafter.learnt[0]).toMatchObject({ drafted: 3, accepted: 2 })
  expect(first).toBe(drafted.tokens[0])
})

test('no draft row lies beyond the context or the last token', async () => {
  const greedy = Array.from({ length: 20 }, () => [0, 0, 0, 0, 0, 0, 0])
  const short = await run({ ...request, maxTokens: 4 }, scripted(greedy))
  expect(Math.max(...short.asked.map(([ids]) => ids))).toBeLessThanOrEqual(2 + 3)
  const full = await run(request, scripted(greedy), 9)
  expect(Math.max(...full.asked.map(([ids]) => ids))).toBeLessThanOrEqual(9)
  expect(full.tokens).toHaveLength(7)
})

test('an answer that its reader ends in the middle of a step has no logits of later tokens', async () => {
  const plain = await run(request, undefined)
  const logits: number[] = []
  const generated = generate(request, {
    ends,
    session: createToySession(64),
    drafter: scripted([plain.tokens.slice(1, 8)]),
    onLogits: (index) => void logits.push(index),
  })
  for (let i = 0; i < 3; i++) await generated.next()
  await generated.return('stop')
  expect(logits).toEqual([0, 1, 2])
})
