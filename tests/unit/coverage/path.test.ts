import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { coverageLimits } from '../../../src/base/limits.ts'
import { keepGuards, presentGuards, type Relay } from '../../../src/coverage/guards.ts'
import type { LayerHolder } from '../../../src/coverage/map.ts'
import { clashOf, findGuardedRoute, type PathRequest, type PeerPlace, sameHands } from '../../../src/coverage/path.ts'
import { networkOf } from '../../../src/p2p/public-network.ts'

const place = (address: string, change: Partial<PeerPlace> = {}): PeerPlace => {
  return { address, family: [], networks: [], ...change }
}
const relay = (address: string, change: Partial<Relay> = {}): Relay => ({
  ...place(address),
  computes: false,
  ...change,
})
const holder = (address: string, start: number, end: number, decodeMs = 1): LayerHolder => ({
  address,
  span: { start, end },
  state: 'online',
  numericsClass: '',
  decodeMs,
  freeKvTokens: 10_000,
  relayed: false,
  rttMs: 1,
  neighbourRttMs: new Map(),
})
const request = (places: readonly PeerPlace[], change: Partial<PathRequest> = {}): PathRequest => ({
  span: { start: 0, end: 8 },
  maxContext: 10,
  maxHops: 8,
  modelName: 'demo',
  guards: places,
  placeOf: (address) => places.find((each) => each.address === address) ?? place(address),
  mayShare: false,
  ...change,
})
const errorOf = (run: () => unknown) => {
  try {
    run()
  } catch (error) {
    return (error as { code: string }).code
  }
  return undefined
}

describe('whose a peer is', () => {
  it.each([
    ['/ip4/203.0.113.9/tcp/1', '203.0.0.0/16'],
    ['/ip4/172.32.0.1/tcp/1', '172.32.0.0/16'],
    ['/ip6/2001:db8:1::5/udp/1/quic-v1', '2001:db8::/32'],
    ['/ip6/2a00::1/tcp/1', '2a00:0::/32'],
    ['/ip4/10.1.2.3/tcp/1', undefined],
    ['/ip4/127.0.0.1/tcp/1', undefined],
    ['/ip4/172.31.0.1/tcp/1', undefined],
    ['/ip4/192.168.3.4/tcp/1', undefined],
    ['/ip4/100.64.0.1/tcp/1', undefined],
    ['/ip6/::1/tcp/1', undefined],
    ['/ip6/fe80::1/tcp/1', undefined],
    ['/ip6/fd00::1/tcp/1', undefined],
    ['/dns4/example.org/tcp/1', undefined],
    ['/ip4/203.0.113.9/tcp/1/p2p/x/p2p-circuit', undefined],
    ['', undefined],
  ])('%s is in %s', (addr, network) => expect(networkOf(addr)).toBe(network))

  it('one identity, a family that either names, a shared network', () => {
    const strict = { mayShare: false }
    const net = { networks: ['203.0.0.0/16'] }
    expect(sameHands(place('a'), place('b'), strict)).toBe(false)
    expect(sameHands(place('a', { family: ['b'] }), place('b'), strict)).toBe(true)
    expect(sameHands(place('a'), place('b', { family: ['a'] }), strict)).toBe(true)
    expect(sameHands(place('a', net), place('b', net), strict)).toBe(true)
    expect(sameHands(place('a', net), place('b', net), { mayShare: true })).toBe(false)
    expect(sameHands(place('a'), place('a'), { mayShare: true })).toBe(true)
    expect(clashOf([place('a'), place('b'), place('a')], strict)).toEqual([0, 2])
    expect(clashOf([place('a'), place('b')], strict)).toBeUndefined()
  })
})

describe('a guarded route', () => {
  const holders = [holder('A', 0, 4), holder('B', 4, 8)]
  it('stands between two guards', () => {
    const path = findGuardedRoute(holders, request([place('r'), place('s')]))
    expect(path.route.hops.map((hop) => hop.holder.address)).toEqual(['A', 'B'])
    expect(new Set([path.front, path.back])).toEqual(new Set(['r', 's']))
  })

  it('says that relays are missing, or layers', () => {
    expect(errorOf(() => findGuardedRoute(holders, request([])))).toBe('NO_RELAY')
    expect(errorOf(() => findGuardedRoute(holders, request([place('r')])))).toBe('NO_RELAY')
    expect(errorOf(() => findGuardedRoute(holders, request([place('A'), place('r')])))).toBe('NO_RELAY')
    expect(errorOf(() => findGuardedRoute(holders.slice(1), request([])))).toBe('COVERAGE_GAP')
    const family = [place('r', { family: ['s'] }), place('s')]
    expect(errorOf(() => findGuardedRoute(holders, request(family)))).toBe('NO_RELAY')
    expect(findGuardedRoute(holders, request(family, { mayShare: true })).front).toBe('r')
  })

  it('takes another holder instead of one that is a guard, or of the guard’s network', () => {
    const net = { networks: ['203.0.0.0/16'] }
    const path = findGuardedRoute([...holders, holder('C', 0, 4, 9)], request([place('A'), place('s')]))
    expect(path.route.hops.map((hop) => hop.holder.address)).toEqual(['C', 'B'])
    const places = [place('r', net), place('s'), place('A', net), place('B'), place('C')]
    const near = findGuardedRoute([...holders, holder('C', 0, 4, 9)], request(places, { guards: places.slice(0, 2) }))
    expect(near.route.hops.map((hop) => hop.holder.address)).toEqual(['C', 'B'])
  })

  it('goes around a guard, and around a link of a guard, that failed', () => {
    const guards = [place('r'), place('s'), place('t')]
    const bad = (from: string | null, to: string | null) =>
      (from === null && to === 'r') || (from === 's' && to === 'A') ? 1e7 : 0
    const path = findGuardedRoute(holders, request(guards, { penaltyMs: bad }))
    expect(path).toMatchObject({ front: 't', route: { penaltyMs: 0 } })
  })

  it('never has two hops of one person, whatever the swarm looks like', () => {
    const peers = fc.array(
      fc.record({ family: fc.nat(7), network: fc.nat(3), start: fc.nat(7), length: fc.integer({ min: 1, max: 8 }) }),
      { minLength: 4, maxLength: 14 },
    )
    fc.assert(
      fc.property(peers, fc.boolean(), (list, mayShare) => {
        const places = list.map(({ family, network }, i) =>
          place(`p${i}`, { family: family < 3 ? [`p${family}`] : [], networks: network < 2 ? [`n${network}`] : [] }),
        )
        const nodes = list.map(({ start, length }, i) => holder(`p${i}`, start, Math.min(8, start + length)))
        const ask = request(places, { mayShare, guards: places.slice(0, 3) })
        let path: ReturnType<typeof findGuardedRoute>
        try {
          path = findGuardedRoute(nodes, ask)
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/NO_RELAY|COVERAGE_/)
          return
        }
        const stops = [path.front, ...path.route.hops.map((hop) => hop.holder.address), path.back]
        expect(clashOf(stops.map(ask.placeOf), { mayShare })).toBeUndefined()
      }),
      { numRuns: 400 },
    )
  })
})

describe('guards', () => {
  const options = { nowMs: 1_000, random: () => 0.5, mayShare: false }
  const relays = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => relay(name))

  it('are three, and stay the same', () => {
    const first = keepGuards([], relays, options)
    expect(first).toHaveLength(3)
    const later = keepGuards(first, [...relays].reverse(), { ...options, nowMs: 1_000 + coverageLimits.guardMs - 1 })
    expect(later).toEqual(first)
    expect(presentGuards(later, relays).map(({ address }) => address)).toEqual(first.map(({ address }) => address))
  })

  it('are exchanged after 120 days, and when they claim to be from the future', () => {
    const old = keepGuards([], relays.slice(0, 3), options)
    const nowMs = 1_000 + coverageLimits.guardMs
    expect(keepGuards(old, relays.slice(3), { ...options, nowMs }).map(({ address }) => address)).toEqual([
      'd',
      'e',
      'f',
    ])
    expect(keepGuards([{ address: 'a', sinceMs: 2_000 }], [], options)).toEqual([])
  })

  it('who drives them off gets few turns, and they come back', () => {
    let guards = keepGuards([], relays.slice(0, 3), options)
    guards = keepGuards(guards, relays.slice(3, 6), options)
    guards = keepGuards(guards, relays.slice(6), options)
    expect(guards).toHaveLength(coverageLimits.guardsKept)
    expect(presentGuards(guards, relays.slice(6))).toEqual([])
    expect(presentGuards(guards, relays).map(({ address }) => address)).toEqual(['a', 'b', 'c'])
  })

  it('are of different people, and nodes without layers first', () => {
    const net = { networks: ['203.0.0.0/16'] }
    const mixed = [relay('a', { computes: true }), relay('b', net), relay('c', net), relay('d')]
    expect(keepGuards([], mixed, options).map(({ address }) => address)).toEqual(['b', 'd', 'a'])
  })
})
