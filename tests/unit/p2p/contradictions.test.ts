import { describe, expect, it } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { contradictionSchema, createContradictions } from '../../../src/p2p/contradictions.ts'

const keyOf = (i: number) => i.toString(16).padStart(64, '0')
const proof = (atMs: number) => ({ sequence: 7, first: Uint8Array.of(1), second: Uint8Array.of(2, 3), atMs })

describe('two truths of an address', () => {
  it('are kept as they came, the first two of them, also over a dump', () => {
    const found = createContradictions()
    expect(found.add(keyOf(1), proof(1))).toBe(true)
    expect(found.add(keyOf(1), { ...proof(2), second: Uint8Array.of(4) })).toBe(false)
    expect(found.add(keyOf(2), { ...proof(3), first: null })).toBe(true)
    const dump = JSON.parse(JSON.stringify(found.dump()))
    const again = createContradictions(contradictionSchema.array().parse(dump))
    expect([...again.all]).toEqual([
      [keyOf(1), proof(1)],
      [keyOf(2), { ...proof(3), first: null }],
    ])
  })

  it('are forgotten in time', () => {
    const found = createContradictions()
    found.add(keyOf(1), proof(0))
    found.add(keyOf(2), proof(1))
    found.expire(p2pLimits.contradictionMs - 1)
    expect(found.all.size).toBe(2)
    found.expire(p2pLimits.contradictionMs)
    expect([...found.all.keys()]).toEqual([keyOf(2)])
  })

  it('are at most so many; the oldest goes', () => {
    const found = createContradictions()
    for (let i = 0; i <= p2pLimits.contradictions; i++) found.add(keyOf(i), proof(i))
    expect(found.all.size).toBe(p2pLimits.contradictions)
    expect([found.all.has(keyOf(0)), found.all.has(keyOf(p2pLimits.contradictions))]).toEqual([false, true])
    expect(createContradictions(found.dump()).all).toEqual(found.all)
  })
})
