import { describe, expect, test } from 'vitest'
import { pipelineLimits } from '../../../src/base/limits.ts'
import { distance, isSame } from '../../../src/pipeline/audit.ts'
import { type AuditState, createAuditBook, type Evidence } from '../../../src/pipeline/audit-book.ts'
import type { OpenedChain } from '../../../src/pipeline/entry.ts'
import { createRowRecord } from '../../../src/pipeline/row-record.ts'

const clock = { ms: 1_000, nowMs: () => clock.ms, monotonicMs: () => clock.ms }

function createBook(options: { probability?: number; newPeers?: number; draws?: number[]; state?: AuditState } = {}) {
  const { probability = 0.02, newPeers = 0.25, draws = [0.1], state } = options
  let next = 0
  const states: AuditState[] = []
  const random = () => draws[next++ % draws.length] ?? 0
  return {
    states,
    ...{ book: createAuditBook({ probability, newPeers, random, state, onChange: (s) => states.push(s), clock }) },
  }
}

const lie = (liar: string | null, atMs = clock.ms): Evidence => ({
  ...{ atMs, modelId: '', recipe: '', numericsClass: '', liar, suspects: [], span: null },
  ...{ position: 0, came: '', expected: '', confirmedBy: [] },
})

describe('who is audited', () => {
  test('new peers more often than those that have passed some; with 0 nobody, with 1 everybody', () => {
    const { book } = createBook()
    expect(book.draw(['a', 'b'])).toBe(true)
    for (let time = 0; time < pipelineLimits.auditsOfNew; time++) book.passed(['a', 'b'])
    expect(book.draw(['a', 'b'])).toBe(false)
    expect(book.draw(['a', 'c'])).toBe(true)
    expect(book.draw([])).toBe(false)
    expect(createBook({ probability: 0, draws: [0] }).book.draw(['new'])).toBe(false)
    expect(createBook({ probability: 1, draws: [0.999] }).book.draw(['new'])).toBe(true)
  })
})

describe('who lied', () => {
  test('is left out for a while, and begins as a new peer then; suspects are not', () => {
    const { book, states } = createBook()
    book.passed(['a'])
    book.failed(lie('a'))
    book.failed(lie(null))
    expect([book.isLiar('a'), book.isLiar('b')]).toEqual([true, false])
    expect(states.at(-1)?.passed).toEqual([])
    const after = createBook({ state: states.at(-1) ?? { passed: [], evidence: [] } }).book
    expect(after.isLiar('a')).toBe(true)
    clock.ms += pipelineLimits.liarMs
    expect(after.isLiar('a')).toBe(false)
  })

  test('is told to the scores, and who passed; suspects are not', () => {
    const heard: string[] = []
    const scores = {
      worked: (name: string) => heard.push(`${name} worked`),
      broke: (name: string) => heard.push(`${name} broke`),
    }
    const book = createAuditBook({ probability: 1, newPeers: 1, clock, scores })
    book.passed(['a', 'b'])
    book.failed(lie('c'))
    book.failed(lie(null))
    expect(heard).toEqual(['a worked', 'b worked', 'c broke'])
  })

  test('peers and evidence that are remembered are bounded', () => {
    const { book, states } = createBook()
    book.passed(Array.from({ length: pipelineLimits.auditedPeers + 1 }, (_, i) => `p${i}`))
    expect(states.at(-1)?.passed).toHaveLength(pipelineLimits.auditedPeers)
    for (let i = 0; i <= pipelineLimits.auditEvidence; i++) book.failed(lie(`p${i}`))
    expect(book.evidence).toHaveLength(pipelineLimits.auditEvidence)
    expect(book.isLiar('p0')).toBe(false)
  })
})

test('rows of tokens that were guessed wrong are no part of the record, and it is bounded', () => {
  const record = createRowRecord(2)
  const by = {} as OpenedChain
  record.note([1, 2, 3], Float32Array.of(2, 2, 3, 3), by)
  record.note([1, 2, 4], Float32Array.of(4, 4), by)
  record.note([1, 2, 4, 9], Float32Array.of(9, 9), by)
  expect(record.rowsOf([1, 2, 4, 5]).map(({ pos, row }) => [pos, ...row])).toEqual([
    [1, 2, 2],
    [2, 4, 4],
  ])
  const wide = pipelineLimits.auditBytes / 4 / 2
  const narrow = createRowRecord(wide)
  narrow.note([1, 2, 3], new Float32Array(3 * wide), by)
  expect(narrow.rowsOf([1, 2, 3])).toHaveLength(2)
})

test('one bit is a difference in one class; across classes only what is beyond rounding', () => {
  const row = Float32Array.of(1, -2, 3)
  const near = Float32Array.of(1, -2, 3.0000002)
  expect(isSame(row, row, true)).toBe(true)
  expect(isSame(near, row, true)).toBe(false)
  expect(isSame(near, row, false)).toBe(true)
  expect(isSame(Float32Array.of(1, -2, 3.5), row, false)).toBe(false)
  expect(isSame(row, undefined, false)).toBe(false)
  expect(distance(Float32Array.of(2, 0), Float32Array.of(1, 0))).toBe(1)
})
