import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { onionLimits } from '../../../src/base/limits.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { createSegmentSealer, KIND } from '../../../src/onion/data.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { encodeExtend, newSegment, OP } from '../../../src/onion/ops.ts'
import { relayingLimits } from '../../../src/onion/relaying-limits.ts'
import type { OnionLimits } from '../../../src/onion/types.ts'
import type { MemoryNode } from './memory-network.ts'
import { computeMessage, openPipe, openRaw, type RawEnd, rawRelaySet, relayMessage, watchLink } from './raw-client.ts'
import { createSwarm, idleStats, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

/** Peer ids of nodes that are never used, and are none of the swarm under test. */
const strangers = createSwarm(420).peers.slice(10)

function setUp(settings: { local?: boolean; relay?: boolean; limits?: Partial<OnionLimits> } = {}) {
  const swarm = createSwarm(1, settings)
  const [hop] = swarm.hops
  if (hop === undefined) throw new Error('no hop')
  const local = settings.local ?? true
  const peer = (index: number, subnet?: string) =>
    swarm.network.node(strangers[index] ?? '', { local, ...(subnet === undefined ? {} : { subnet }) })
  return { swarm, hop, peer }
}
const status = async (from: MemoryNode, hop: SwarmNode, message = relayMessage) => {
  const circuit = await openRaw(from, hop, message)
  return circuit.grant?.status ?? 'closed'
}
/** Opens, authenticates (so that nothing stays half-open), and keeps the circuit. */
const keep = async (from: MemoryNode, hop: SwarmNode, message = relayMessage) => {
  const circuit = await openRaw(from, hop, message)
  await circuit.ask(OP.ping, randomBytes(8))
  return circuit
}

describe('rate of CREATE', () => {
  it('one stranger: 8 at once, then one per second; the others are not affected', async () => {
    const { swarm, hop, peer } = setUp({ local: false })
    const [one, other] = [peer(1), peer(2)]
    for (let i = 0; i < 8; i++) expect(await status(one, hop)).toBe('OK')
    expect(await status(one, hop)).toBe('BUSY')
    expect(await status(other, hop)).toBe('OK')
    await swarm.clock.advance(1_000)
    expect(await status(one, hop)).toBe('OK')
    expect(await status(one, hop)).toBe('BUSY')
  })

  it('one subnet: 30 at once', async () => {
    const { hop, peer } = setUp({ local: false })
    for (let i = 0; i < 30; i++) expect(await status(peer(i, '11.0.0'), hop)).toBe('OK')
    expect(await status(peer(30, '11.0.0'), hop)).toBe('BUSY')
    expect(await status(peer(31, '11.0.1'), hop)).toBe('OK')
  })

  it('all strangers: 40 at once, 40 more are told BUSY, the rest is closed; trusted ones still get in', async () => {
    const { hop, swarm } = setUp({ local: false })
    const stranger = (i: number) => swarm.network.node(strangers[i] ?? '', { local: false })
    for (let i = 0; i < 40; i++) expect(await status(stranger(i), hop)).toBe('OK')
    for (let i = 40; i < 80; i++) expect(await status(stranger(i), hop)).toBe('BUSY')
    for (let i = 80; i < 120; i++) expect(await status(stranger(i), hop)).toBe('closed')
    const trusted = swarm.network.node(strangers[200] ?? '', { local: true })
    expect(await status(trusted, hop)).toBe('OK')
  })

  it('local peers have 20 times as much', async () => {
    const { hop, peer } = setUp({ limits: { halfOpen: 1_000 } })
    const local = peer(1)
    for (let i = 0; i < 160; i++) expect(await status(local, hop)).toBe('OK')
    expect(await status(local, hop)).toBe('BUSY')
  })

  it('a peer that closed a circuit cleanly is in good standing', async () => {
    const { hop, peer } = setUp({ local: false })
    const one = peer(1)
    const { circuit } = await openPipe(one, hop)
    circuit.link.close()
    await settle()
    for (let i = 0; i < 20; i++) expect(await status(one, hop)).toBe('OK')
    const two = peer(2)
    const broken = await openPipe(two, hop)
    await broken.circuit.ask(OP.pong, randomBytes(8))
    for (let i = 0; i < 7; i++) expect(await status(two, hop)).toBe('OK')
    expect(await status(two, hop)).toBe('BUSY')
  })
})

describe('circuits at the same time', () => {
  it('64 half-open ones; those that are set up do not count', async () => {
    const { hop, peer } = setUp()
    const client = peer(1)
    for (let i = 0; i < 10; i++) await keep(client, hop)
    for (let i = 0; i < 64; i++) expect(await status(client, hop)).toBe('OK')
    expect(await status(client, hop)).toBe('BUSY')
    expect(hop.service.stats().halfOpenCircuits).toBe(64)
  })

  it('256 streams without a CREATE', async () => {
    const { hop, peer } = setUp()
    const client = peer(1)
    const ends = Array.from({ length: 300 }, () => watchLink(client.rawLink(hop.peerId)))
    await settle()
    expect(ends.filter((end) => end.ended).length).toBe(44)
    expect(hop.service.stats().halfOpenCircuits).toBe(256)
  })

  it('16 relay circuits of one stranger', async () => {
    const limits = { createPerPeer: { perS: 1_000, burst: 1_000 } }
    const { hop, peer } = setUp({ local: false, limits })
    const client = peer(1)
    for (let i = 0; i < 16; i++) expect((await keep(client, hop)).grant?.status).toBe('OK')
    expect(await status(client, hop)).toBe('BUSY')
    expect(await status(client, hop, computeMessage)).toBe('OK')
    expect(await status(peer(2), hop)).toBe('OK')
  })

  it('256 relay circuits in all', async () => {
    const rate = { perS: 10_000, burst: 10_000 }
    const { hop, peer } = setUp({ limits: { createTotal: rate, createPerPeer: rate } })
    const client = peer(1)
    for (let i = 0; i < 256; i++) await keep(client, hop)
    expect(hop.service.stats().relayCircuits).toBe(256)
    expect(await status(client, hop)).toBe('BUSY')
    expect(await status(client, hop, computeMessage)).toBe('OK')
  })

  it('no relay circuit on a node that does not relay, no compute circuit without layers', async () => {
    const { hop, peer } = setUp({ relay: false })
    hop.compute.offerAnswer = null
    expect(await status(peer(1), hop)).toBe('REJECT')
    expect(await status(peer(1), hop, computeMessage)).toBe('REJECT')
    expect(await status(peer(1), hop, { ...relayMessage, role: 'answer' })).toBe('REJECT')
  })
})

describe('time and bytes', () => {
  it('10 minutes without a frame', async () => {
    const { swarm, hop, peer } = setUp()
    const circuit = await keep(peer(1), hop)
    await swarm.clock.advance(599_000)
    await circuit.ask(OP.ping, randomBytes(8))
    await swarm.clock.advance(599_000)
    expect(circuit.ended).toBe(false)
    await swarm.clock.advance(1_001)
    expect(circuit.ended).toBe(true)
  })

  it('60 minutes in all, or what was asked for', async () => {
    for (const [lifetimeS, lifeS] of [
      [100_000, 3_600],
      [60, 60],
    ] as const) {
      const { swarm, hop, peer } = setUp()
      const circuit = await openRaw(peer(1), hop, { ...relayMessage, lifetimeS })
      expect(circuit.grant?.lifeS).toBe(lifeS)
      for (let s = 0; s < lifeS - 30; s += 30) {
        await circuit.ask(OP.ping, randomBytes(8))
        await swarm.clock.advance(30_000)
      }
      await swarm.clock.advance(29_999)
      expect(circuit.ended).toBe(false)
      await swarm.clock.advance(2)
      expect(circuit.ended).toBe(true)
    }
  })

  it('bytes of a life', async () => {
    const { hop, peer } = setUp({ limits: { lifeBytes: 10 * 1_024 } })
    const circuit = await keep(peer(1), hop)
    for (let i = 0; i < 8; i++) expect(await circuit.ask(OP.ping, randomBytes(8))).toMatchObject({ op: OP.pong })
    expect(await circuit.ask(OP.ping, randomBytes(8))).toBe('ended')
  })
})

/** A relay circuit through the hop to `next`, ready for data. */
async function relayThrough(all: ReturnType<typeof setUp>, clientIndex: number, nextIndex = 300) {
  const { swarm, hop } = all
  const client = all.peer(clientIndex)
  const next = swarm.network.node(strangers[nextIndex] ?? '', { addrs: [`/ip4/12.0.0.${nextIndex % 250}/tcp/1`] })
  const accepted: RawEnd[] = []
  next.onLink((link) => accepted.push(watchLink(link)))
  const circuit = await openRaw(client, hop, relayMessage)
  const body = encodeExtend({
    target: { peerId: next.self.peerId, addrs: next.self.addrs() },
    create: randomBytes(256),
  })
  circuit.send(OP.extend, body, true)
  await settle()
  const [end] = accepted
  if (end === undefined) throw new Error('not extended')
  end.link.send(encodeControl(COMMAND.created, randomBytes(208)))
  await settle()
  await circuit.ask(OP.relaySet, rawRelaySet('pass').body)
  end.frames.length = 0
  const sealer = createSegmentSealer(newSegment(nodeCrypto.random), [], nodeCrypto)
  const push = (totalBytes: number) => {
    const header = { kind: KIND.padding, step: 0, pos: 0, nTokens: 0, want: 0, hiddenSize: 0, totalBytes }
    sealer.seal(header, new Uint8Array(totalBytes), circuit.sendFrame)
  }
  const dataBytes = () => end.frames.filter((frame) => frame[0] === 16).reduce((sum, frame) => sum + frame.length, 0)
  return { circuit, end, next, push, dataBytes }
}

describe('bytes that wait', () => {
  it('behind a link that does not drain: up to the grant, then the circuit ends', async () => {
    const all = setUp()
    const { circuit, next, push, end, dataBytes } = await relayThrough(all, 1)
    const witness = await keep(all.peer(2), all.hop)
    all.swarm.network.block(all.hop.peerId, next.self.peerId)
    for (let i = 0; i < 68; i++) push(61_000)
    await settle()
    expect(circuit.ended).toBe(false)
    const { queuedBytes } = all.hop.service.stats()
    expect(queuedBytes).toBeGreaterThan(onionLimits.queueBytes - 200_000)
    expect(queuedBytes).toBeLessThanOrEqual(onionLimits.queueBytes)
    // Control still gets an answer from the hop itself meanwhile.
    expect(await circuit.ask(OP.ping, randomBytes(8))).toMatchObject({ op: OP.pong })
    for (let i = 0; i < 4; i++) push(61_000)
    await settle()
    expect([circuit.ended, end.ended]).toEqual([true, true])
    expect(dataBytes()).toBeLessThan(100_000)
    expect(all.hop.service.stats().queuedBytes).toBe(0)
    expect(await witness.ask(OP.ping, randomBytes(8))).toMatchObject({ op: OP.pong })
  })

  it('go on once it drains, control first', async () => {
    const all = setUp()
    const { circuit, next, push, end } = await relayThrough(all, 1)
    all.swarm.network.block(all.hop.peerId, next.self.peerId)
    for (let i = 0; i < 5; i++) push(100)
    circuit.send(OP.forward, randomBytes(40))
    await settle()
    all.swarm.network.release(all.hop.peerId, next.self.peerId)
    await settle()
    expect(end.frames.map((frame) => frame[0])).toEqual([16, COMMAND.control, 16, 16, 16, 16])
  })

  it('of a predecessor that asks and never reads', async () => {
    const all = setUp({ limits: { queueBytes: 20 * 1_024, frameSpareBytes: 0 } })
    const client = all.peer(1)
    const circuit = await keep(client, all.hop)
    all.swarm.network.block(all.hop.peerId, client.self.peerId)
    for (let i = 0; i < 21; i++) circuit.send(OP.ping, randomBytes(8))
    await settle()
    expect(circuit.ended).toBe(false)
    circuit.send(OP.ping, randomBytes(8))
    await settle()
    expect(circuit.ended).toBe(true)
  })

  it('in all circuits: the one with the oldest byte is dropped, also when it takes a little now and then', async () => {
    const all = setUp({ limits: { queueTotalBytes: 200_000 } })
    const circuits = [await relayThrough(all, 1, 301), await relayThrough(all, 2, 302), await relayThrough(all, 3, 303)]
    const ended = () => circuits.map(({ circuit }) => circuit.ended)
    for (const { next } of circuits) all.swarm.network.block(all.hop.peerId, next.self.peerId)
    // The first of each goes to the link, the others wait.
    for (const [index, count] of [3, 2].entries()) {
      for (let i = 0; i < count; i++) circuits[index]?.push(61_000)
      await all.swarm.clock.advance(10)
    }
    const slow = circuits[0]?.next.self.peerId ?? ''
    all.swarm.network.release(all.hop.peerId, slow)
    all.swarm.network.block(all.hop.peerId, slow)
    await all.swarm.clock.advance(10)
    expect(all.hop.service.stats().queuedBytes).toBe(2 * 61_470)
    circuits[2]?.push(61_000)
    circuits[2]?.push(61_000)
    await settle()
    expect(ended()).toEqual([false, false, false])
    circuits[2]?.push(61_000)
    await settle()
    expect(ended()).toEqual([true, false, false])
  })

  it('of one stranger', async () => {
    const all = setUp({ local: false, limits: { queuePeerBytes: 100_000 } })
    const [one, other] = [await relayThrough(all, 1, 301), await relayThrough(all, 2, 302)]
    for (const { next } of [one, other]) all.swarm.network.block(all.hop.peerId, next.self.peerId)
    for (let i = 0; i < 2; i++) {
      one.push(61_000)
      other.push(61_000)
    }
    await settle()
    expect([one.circuit.ended, other.circuit.ended]).toEqual([false, false])
    one.push(61_000)
    await settle()
    expect([one.circuit.ended, other.circuit.ended]).toEqual([true, false])
  })
})

it('a relay lets a burst through and then its rate, and loses nothing', async () => {
  const all = setUp({ limits: { relayBytesPerS: 100_000, relayBurstBytes: 300_000 } })
  const { circuit, push, dataBytes } = await relayThrough(all, 1)
  for (let i = 0; i < 16; i++) push(61_000)
  await settle()
  expect(dataBytes()).toBe(4 * 61_470)
  await all.swarm.clock.advance(2_000)
  expect(dataBytes()).toBe(8 * 61_470)
  await all.swarm.clock.advance(10_000)
  expect(dataBytes()).toBe(16 * 61_470)
  expect(circuit.ended).toBe(false)
})

it('the owner of a node sets how many circuits pass and how fast', async () => {
  expect(relayingLimits({ relayCircuits: 256, relayMBps: 8 })).toEqual({
    relayCircuits: onionLimits.relayCircuits,
    relayBytesPerS: onionLimits.relayBytesPerS,
    relayBurstBytes: onionLimits.relayBurstBytes,
    relayTotal: onionLimits.relayTotal,
  })
  const { hop, peer } = setUp({ limits: relayingLimits({ relayCircuits: 2, relayMBps: 0.1 }) })
  for (let i = 0; i < 2; i++) expect((await keep(peer(i), hop)).grant?.status).toBe('OK')
  expect(await status(peer(3), hop)).toBe('BUSY')
  expect(relayingLimits({ relayCircuits: 1, relayMBps: 1_000 }).relayTotal?.perS).toBe(4e9)
})

it('all relayed circuits share a rate: peers take turns, however many circuits one of them has', async () => {
  const rate = { relayBytesPerS: 1e9, relayBurstBytes: 1e9, relayTotal: { perS: 246_000, burst: 61_500 } }
  const all = setUp({ limits: { ...rate, queueBytes: 64 * 1_048_576 } })
  const greedy = [await relayThrough(all, 1, 301), await relayThrough(all, 1, 302), await relayThrough(all, 1, 303)]
  const modest = await relayThrough(all, 2, 304)
  for (const { push } of greedy) for (let i = 0; i < 20; i++) push(61_000)
  for (let i = 0; i < 20; i++) modest.push(61_000)
  await all.swarm.clock.advance(5_000)
  const [own, ...others] = [modest, ...greedy].map(({ dataBytes }) => dataBytes() / 61_470)
  const sum = others.reduce((all, frames) => all + frames, 0)
  // The burst and 4 frames a second, half of them for each peer.
  expect((own ?? 0) + sum).toBeGreaterThanOrEqual(19)
  expect((own ?? 0) + sum).toBeLessThanOrEqual(21)
  expect(Math.abs((own ?? 0) - sum)).toBeLessThanOrEqual(2)
  expect(Math.max(...others) - Math.min(...others)).toBeLessThanOrEqual(2)
  await all.swarm.clock.advance(60_000)
  expect([modest, ...greedy].map(({ dataBytes }) => dataBytes())).toEqual(Array(4).fill(20 * 61_470))
  for (const { circuit } of [...greedy, modest]) circuit.link.close()
  await settle()
  expect(all.hop.service.stats()).toEqual(idleStats)
  await all.swarm.clock.advance(20_000)
  expect(all.swarm.clock.timers).toBe(0)
})

it('thousands of connects and disconnects leave no state', async () => {
  const rate = { perS: 1e6, burst: 1e6 }
  const { hop, peer, swarm } = setUp({ limits: { createPerPeer: rate, createTotal: rate } })
  const client = peer(1)
  for (let i = 0; i < 10_000; i++) {
    const link = client.rawLink(hop.peerId)
    if (i % 2 === 0) link.send(encodeControl(COMMAND.create, new Uint8Array(256)))
    link.abort('gone')
    if (i % 100 === 0) await settle()
  }
  for (let i = 0; i < 500; i++) {
    const circuit = await openRaw(client, hop)
    if (i % 3 > 0) await circuit.ask(OP.ping, randomBytes(8))
    circuit.link.abort('gone')
  }
  await settle()
  expect(hop.service.stats()).toEqual(idleStats)
  expect(swarm.clock.timers).toBe(0)
  expect(swarm.network.openLinks).toBe(0)
})
