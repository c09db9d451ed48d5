import { describe, expect, test } from 'vitest'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import { explainUsage } from '../../../src/coverage/usage.ts'

const holder = (address: string, start: number, end: number, more: Partial<LayerHolder> = {}): LayerHolder => ({
  address,
  span: { start, end },
  state: 'online',
  numericsClass: 'aa',
  decodeMs: 1,
  freeKvTokens: 4_096,
  relayed: false,
  rttMs: 10,
  neighbourRttMs: new Map(),
  ...more,
})

function why(holders: readonly LayerHolder[], rtts: Readonly<Record<string, number>> = {}) {
  const rttTo = ({ address }: LayerHolder) => rtts[address] ?? 10
  const [usage] = explainUsage({ self: 'me', askers: [{ address: 'asker', rttTo }], holders, nLayers: 12, maxHops: 8 })
  return usage
}

describe('why a node is not used', () => {
  test('it is', () => {
    expect(why([holder('me', 0, 12)])).toEqual({ address: 'asker', used: true, reason: 'on its best route' })
    expect(why([holder('a', 0, 6), holder('me', 6, 12)])?.used).toBe(true)
  })

  test('others are faster, and by how much', () => {
    const usage = why([holder('a', 0, 12), holder('me', 0, 12, { decodeMs: 3 })])
    expect(usage?.used).toBe(false)
    expect(usage?.reason).toContain('24.0 ms more through this node')
    expect(why([holder('a', 0, 12), holder('me', 0, 12)], { a: 1, me: 50 })?.reason).toContain('ms more')
  })

  test('a gap elsewhere', () => {
    expect(why([holder('me', 0, 6)])?.reason).toContain('6-11')
  })

  test('other bits', () => {
    const usage = why([holder('a', 0, 12), holder('me', 0, 12, { numericsClass: 'bb', decodeMs: 3 })])
    expect(usage?.reason).toContain('other bits')
  })

  test('its own state, and no layers at all', () => {
    expect(why([holder('me', 0, 12, { state: 'draining' })])?.reason).toContain('serves nobody now')
    expect(why([holder('a', 0, 12)])?.reason).toContain('serves no layers')
  })

  test('no room', () => {
    const usage = why([holder('a', 0, 12), holder('me', 0, 12, { freeKvTokens: 0 })])
    expect(usage).toMatchObject({ used: false, reason: expect.stringContaining('no room') })
  })

  test('in the middle of longer spans', () => {
    const usage = why([holder('a', 0, 8), holder('b', 4, 12), holder('me', 4, 8)])
    expect(usage?.reason).toContain('would be longer')
  })
})
