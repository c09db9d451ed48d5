/** Peers that break rules again and again are sent away; those that are known, or that circuits of others come from, are not. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { onionLimits } from '../../../src/base/limits.ts'
import { OP } from '../../../src/onion/ops.ts'
import type { MemoryNode } from './memory-network.ts'
import { openRaw, relayMessage, watchLink } from './raw-client.ts'
import { createSwarm, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const [stranger = ''] = createSwarm(20).peers.slice(19)

function setUp({ local = false, contacts = [] as string[] } = {}) {
  const swarm = createSwarm(1, { local, contacts })
  const [hop] = swarm.hops
  if (hop === undefined) throw new Error('no hop')
  return { swarm, hop, from: swarm.network.node(stranger, { local }) }
}

const status = async (from: MemoryNode, hop: SwarmNode) =>
  (await openRaw(from, hop, relayMessage)).grant?.status ?? 'closed'

/** A stream with a frame that is none. */
async function foul(from: MemoryNode, hop: SwarmNode): Promise<void> {
  const link = from.rawLink(hop.peerId)
  const end = watchLink(link)
  const garbage = randomBytes(1_024)
  garbage[0] = 0xee
  link.send(garbage)
  await settle()
  expect(end.ended).toBe(true)
}

describe('a peer that breaks rules', () => {
  it('a stranger may break a rule 32 times; with the next it is sent away', async () => {
    const { hop, from } = setUp()
    for (let i = 0; i < onionLimits.fouls.burst; i++) await foul(from, hop)
    expect(hop.transport.refused).toEqual([])
    await foul(from, hop)
    expect(hop.transport.refused).toEqual([stranger])
    expect(hop.sentAway).toEqual([stranger])
    // A connection that is still there gets no circuit, and is not sent away again and again.
    expect(await status(from, hop)).toBe('closed')
    expect(hop.transport.refused).toEqual([stranger])
  })

  it('and is heard again after a minute', async () => {
    const { swarm, hop, from } = setUp()
    for (let i = 0; i <= onionLimits.fouls.burst; i++) await foul(from, hop)
    await swarm.clock.advance(onionLimits.foulMs - 1)
    expect(await status(from, hop)).toBe('closed')
    await swarm.clock.advance(2)
    expect(await status(from, hop)).toBe('OK')
  })

  it('keeps its connection while a circuit that came from it is set up', async () => {
    const { hop, from } = setUp()
    const circuit = await openRaw(from, hop, relayMessage)
    await circuit.ask(OP.ping, randomBytes(8))
    for (let i = 0; i <= onionLimits.fouls.burst; i++) await foul(from, hop)
    expect(hop.transport.refused).toEqual([])
    expect(await status(from, hop)).toBe('closed')
    expect(await circuit.ask(OP.ping, randomBytes(8))).toMatchObject({ op: OP.pong })
  })

  it.each([
    ['of one’s own network at home', { local: true }],
    ['that is a contact', { contacts: [stranger] }],
  ])('%s is never sent away', async (_name, known) => {
    const { hop, from } = setUp(known)
    for (let i = 0; i < 3 * onionLimits.fouls.burst; i++) await foul(from, hop)
    expect(hop.transport.refused).toEqual([])
    expect(await status(from, hop)).toBe('OK')
  })

  it('a circuit with a 65th PING at once has ended', async () => {
    const { swarm, hop, from } = setUp()
    const circuit = await openRaw(from, hop, relayMessage)
    for (let i = 0; i < onionLimits.pings.burst; i++) await circuit.ask(OP.ping, randomBytes(8))
    await swarm.clock.advance(1_000)
    for (let i = 0; i < onionLimits.pings.perS; i++) await circuit.ask(OP.ping, randomBytes(8))
    expect(hop.service.stats().relayCircuits).toBe(1)
    expect(await circuit.ask(OP.ping, randomBytes(8))).toBe('ended')
    expect(hop.service.stats().relayCircuits).toBe(0)
  })
})
