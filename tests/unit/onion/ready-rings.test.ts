import { describe, expect, it } from 'vitest'
import { onionLimits } from '../../../src/base/limits.ts'
import { createSwarm, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()
const circuitsAt = (swarm: Swarm) => swarm.hops.map(({ service }) => service.stats())
const frames = (swarm: Swarm) => {
  let count = 0
  swarm.network.tap = (frame) => {
    count++
    return frame
  }
  return () => count
}
async function prepared(shape = 'rccr', settings: Parameters<typeof createSwarm>[1] = {}) {
  const swarm = createSwarm(6, settings)
  const options = swarm.options(shape)
  swarm.entry.service.prepareRing(options)
  await swarm.clock.advance(1)
  expect(swarm.entry.service.stats()).toMatchObject({ readyRings: 1, openRings: 0 })
  return { swarm, options }
}

describe('a circuit built ahead', () => {
  it('holds no KV and stays when nobody asks for a while; the ring over it needs no handshake', async () => {
    const { swarm, options } = await prepared()
    await swarm.clock.advance(60_000)
    expect(swarm.hops.flatMap(({ compute }) => [...compute.sessions])).toEqual([])
    expect(circuitsAt(swarm).map((stats) => stats.halfOpenCircuits)).toEqual([0, 0, 0, 0, 0, 0])
    expect(swarm.entry.service.stats().halfOpenCircuits).toBe(0)
    const dials = swarm.entry.transport.dials.length
    const sent = frames(swarm)
    const ring = await swarm.entry.service.openRing(options, { signal })
    // One op for each of 4 hops and the entry's own end, over 1 to 5 links and back, and 5 OKs.
    expect(sent()).toBe(2 * (1 + 2 + 3 + 4 + 5))
    expect(swarm.entry.transport.dials.length).toBe(dials)
    expect(swarm.entry.service.stats()).toMatchObject({ readyRings: 0, openRings: 1 })
    expect(ring.lifeS).toBeLessThanOrEqual(onionLimits.lifeS - 60)
    await ring.forward({ pos: 0, hidden: rowsFrom(0, 3), want: 1 })
    await ring.close()
    await settle()
    for (const node of [swarm.entry, ...swarm.hops]) expect(node.service.stats()).toEqual(idleStats)
  })

  it('serves one ring, and only one over the same hops for the same model, class and context', async () => {
    const { swarm, options } = await prepared('ccc')
    const others = [
      swarm.options('cc'),
      { ...options, modelId: new Uint8Array(32).fill(8) },
      { ...options, numericsClass: new Uint8Array(32).fill(5) },
      { ...options, longRope: true },
      { ...options, maxContext: options.maxContext + 1 },
    ]
    for (const other of others) {
      const ring = await swarm.entry.service.openRing(other, { signal })
      expect(swarm.entry.service.stats().readyRings).toBe(1)
      await ring.close()
    }
    const first = await swarm.entry.service.openRing({ ...options, maxContext: 100 }, { signal })
    expect(swarm.entry.service.stats().readyRings).toBe(0)
    const second = await swarm.entry.service.openRing({ ...options, maxContext: 100 }, { signal })
    expect(circuitsAt(swarm)[0]?.computeCircuits).toBe(2)
    await Promise.all([first.close(), second.close()])
  })

  it('goes after 5 minutes, with a hop of it, and with the node', async () => {
    for (const how of ['time', 'hop', 'stop'] as const) {
      const { swarm } = await prepared('cc')
      if (how === 'time') await swarm.clock.advance(onionLimits.readyMs)
      else if (how === 'hop') swarm.network.kill(swarm.hops[1]?.peerId ?? '')
      else await swarm.entry.service.stop()
      await settle()
      expect(swarm.entry.service.stats().readyRings, how).toBe(0)
      expect(swarm.hops[0]?.service.stats(), how).toEqual(idleStats)
    }
  })

  it('that stands no more is replaced without a word', async () => {
    const { swarm, options } = await prepared('cc')
    swarm.network.tap = (frame, from) => (from === swarm.entry.peerId && frame[0] === 3 ? undefined : frame)
    const opening = swarm.entry.service.openRing(options, { signal })
    await swarm.clock.advance(onionLimits.opMs - 1)
    swarm.network.tap = (frame) => frame
    await swarm.clock.advance(1_000)
    const ring = await opening
    await ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })
    await ring.close()
    await settle()
    expect(swarm.hops[1]?.service.stats()).toEqual(idleStats)
  })
})

it('at most four wait: the oldest makes room, the same one twice is built once, and a failure is silent', async () => {
  const swarm = createSwarm(6)
  const { service } = swarm.entry
  for (const shape of ['c', 'cc', 'ccc', 'cccc', 'cccc', 'ccccc']) {
    service.prepareRing(swarm.options(shape))
    await settle()
  }
  expect(service.stats().readyRings).toBe(onionLimits.readyRings)
  expect(circuitsAt(swarm).map(({ computeCircuits }) => computeCircuits)).toEqual([4, 4, 3, 2, 1, 0])
  swarm.network.kill(swarm.hops[5]?.peerId ?? '')
  service.prepareRing(swarm.options('cccccc'))
  await settle()
  expect(service.stats().readyRings).toBe(onionLimits.readyRings - 1)
  await service.stop()
  await settle()
  for (const { service: other } of swarm.hops.slice(0, 5)) expect(other.stats()).toEqual(idleStats)
  expect(swarm.network.openLinks).toBe(0)
})
