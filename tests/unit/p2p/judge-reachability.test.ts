import { describe, expect, it } from 'vitest'
import { reachabilityLimits } from '../../../src/base/limits-reach.ts'
import { judgeReachability, type ReachabilityFacts } from '../../../src/p2p/judge-reachability.ts'

const nothing: ReachabilityFacts = { proven: [], unproven: [], relays: 0, ageMs: 0, outsideMs: null, port: 5561 }
const judge = (facts: Partial<ReachabilityFacts>) => judgeReachability({ ...nothing, ...facts })
const addr = '/ip4/11.1.0.1/tcp/5561'

describe('how a node is reached', () => {
  it('is found out first', () => {
    expect(judge({}).word).toBe('unknown')
    expect(judge({ ageMs: reachabilityLimits.aloneMs - 1 }).word).toBe('unknown')
    expect(judge({ ageMs: 1e9, outsideMs: reachabilityLimits.provenMs - 1, unproven: [addr] }).word).toBe('unknown')
  })

  it('is public, before everything else', () => {
    const proven = [
      { addr: '/ip4/11.2.0.1/tcp/5561', mapped: true },
      { addr, mapped: false },
    ]
    expect(judge({ proven, relays: 2 })).toEqual({
      word: 'public',
      ok: true,
      reason: `Others dial it at ${addr}.`,
      next: null,
    })
  })

  it('is mapped where the router forwards', () => {
    expect(judge({ proven: [{ addr, mapped: true }], relays: 1 })).toMatchObject({
      word: 'mapped',
      ok: true,
      next: null,
    })
  })

  it('is relayed, with the reason and what to do', () => {
    const hidden = judge({ relays: 1 })
    expect(hidden).toMatchObject({ word: 'relayed', ok: true })
    expect(hidden.reason).toBe('It has no public address; others come in through a relay.')
    expect(hidden.next).toContain('port 5561')
    expect(judge({ relays: 2, unproven: [addr] }).reason).toBe(
      `Nobody outside could dial ${addr}; others come in through 2 relays.`,
    )
  })

  it('is from its own network only: no fault where there is no other, one where there is', () => {
    const alone = judge({ ageMs: reachabilityLimits.aloneMs })
    expect(alone).toMatchObject({ word: 'unreachable', ok: true })
    expect(alone.next).toContain('bootstrap add')
    const shut = judge({ ageMs: 1e6, outsideMs: reachabilityLimits.provenMs, unproven: [addr] })
    expect(shut).toMatchObject({ word: 'unreachable', ok: false })
    expect(shut.reason).toContain(addr)
  })
})
