import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { COMMAND, decodeControl, encodeControl } from '../../../src/onion/frames.ts'
import { OP } from '../../../src/onion/ops.ts'
import { dataFrame, extendTo, peerOf, setUpHop, withWitness } from './hop-under-test.ts'
import { computeMessage, openRaw, rawCreate, rawPipe, rawRelaySet, relayMessage, watchLink } from './raw-client.ts'
import type { SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

describe('a stream', () => {
  const first: [string, (hop: SwarmNode) => Uint8Array][] = [
    ['CREATED', () => encodeControl(COMMAND.created, randomBytes(208))],
    ['CONTROL', () => encodeControl(COMMAND.control, randomBytes(40))],
    ['CONTROL_EARLY', () => encodeControl(COMMAND.controlEarly, randomBytes(40))],
    ['PADDING', () => encodeControl(COMMAND.padding, randomBytes(40))],
    ['DATA', () => dataFrame(1_040)],
    ['DESTROY', () => encodeControl(COMMAND.destroy, new Uint8Array(0))],
    ['no frame', () => randomBytes(1_024).fill(99)],
    ['a frame of the wrong length', () => new Uint8Array(1_023).fill(1)],
    ['a CREATE of the wrong length', () => encodeControl(COMMAND.create, randomBytes(255))],
    ['a random CREATE', () => encodeControl(COMMAND.create, randomBytes(256))],
    ['a CREATE for another node', (hop) => withChanged(rawCreate(hop, computeMessage).create, 0)],
    ['a CREATE under an unknown onion key', (hop) => withChanged(rawCreate(hop, computeMessage).create, 32)],
    ['a CREATE with a broken message', (hop) => withChanged(rawCreate(hop, computeMessage).create, 100)],
  ]
  it.each(first)('that begins with %s is closed', async (_, frame) => {
    const { hop, client } = setUpHop()
    await withWitness(hop, client, async () => {
      const end = watchLink(client.rawLink(hop.peerId))
      end.link.send(frame(hop))
      await settle()
      expect(end.ended).toBe(true)
      expect(end.frames.filter((answer) => answer[0] === COMMAND.created)).toEqual([])
    })
  })

  it('that says nothing is closed after 10 s', async () => {
    const { swarm, hop, client } = setUpHop()
    const end = watchLink(client.rawLink(hop.peerId))
    await swarm.clock.advance(9_999)
    expect(end.ended).toBe(false)
    await swarm.clock.advance(2)
    expect(end.ended).toBe(true)
  })
})

describe('a half-open circuit', () => {
  it('ends with a second CREATE, with DATA, or with a control frame that is not authentic', async () => {
    for (const frame of [
      encodeControl(COMMAND.created, randomBytes(208)),
      dataFrame(1_040),
      encodeControl(COMMAND.control, randomBytes(40)),
    ]) {
      const { hop, client } = setUpHop()
      await withWitness(hop, client, async () => {
        const circuit = await openRaw(client, hop)
        circuit.sendFrame(frame)
        await settle()
        expect(circuit.ended).toBe(true)
      })
    }
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop)
    circuit.sendFrame(encodeControl(COMMAND.create, rawCreate(hop, computeMessage).create))
    await settle()
    expect(circuit.ended).toBe(true)
  })

  it('ends after 10 s without a control frame', async () => {
    const { swarm, hop, client } = setUpHop()
    const circuit = await openRaw(client, hop)
    expect(hop.service.stats().halfOpenCircuits).toBe(1)
    await swarm.clock.advance(10_001)
    expect(circuit.ended).toBe(true)
    expect(swarm.clock.timers).toBe(0)
  })

  it('reserves nothing, also when the same CREATE comes again', async () => {
    const { hop, client } = setUpHop()
    const { create } = rawCreate(hop, computeMessage)
    for (let i = 0; i < 3; i++) {
      const end = watchLink(client.rawLink(hop.peerId))
      end.link.send(encodeControl(COMMAND.create, create))
      await settle()
      expect(end.frames[0]?.[0]).toBe(COMMAND.created)
    }
    expect(hop.compute.sessions.size).toBe(0)
  })
})

describe('ops', () => {
  it.each([
    ['EXTENDED', OP.extended, 208],
    ['EXTEND_FAIL', OP.extendFail, 1],
    ['OK', OP.ok, 1],
    ['FAIL', OP.fail, 2],
    ['PONG', OP.pong, 8],
    ['TRUNCATED', OP.truncated, 0],
    ['an unknown op', 14, 0],
    ['OUT_SET before PIPE_SET', OP.outSet, 88],
    ['PING with another length', OP.ping, 7],
    ['TRUNCATE with a body', OP.truncate, 1],
    ['FORWARD at the last hop', OP.forward, 40],
    ['PIPE_SET of random bytes', OP.pipeSet, 179],
    ['RELAY_SET to a compute hop', OP.relaySet, 77],
  ])('%s ends the circuit', async (_, op, length) => {
    const { hop, client } = setUpHop()
    await withWitness(hop, client, async () => {
      const circuit = await openRaw(client, hop)
      expect(await circuit.ask(op, new Uint8Array(length).fill(1))).toBe('ended')
    })
  })

  it('PING is answered, DROP and PADDING are not', async () => {
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop)
    const nonce = randomBytes(8)
    circuit.send(OP.drop, randomBytes(30))
    circuit.sendFrame(encodeControl(COMMAND.padding, randomBytes(3)))
    const answer = await circuit.ask(OP.ping, nonce)
    expect(answer).toMatchObject({ op: OP.pong })
    expect(answer !== 'ended' && Buffer.compare(answer.inner, nonce)).toBe(0)
    expect(circuit.ended).toBe(false)
  })

  it('PIPE_SET to a relay ends the circuit', async () => {
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop, relayMessage)
    expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
  })
})

describe('EXTEND', () => {
  const created = () => encodeControl(COMMAND.created, randomBytes(208))

  it('passes CREATE and CREATED on and then forwards', async () => {
    const { hop, client, next, accepted } = setUpHop()
    const circuit = await openRaw(client, hop, relayMessage)
    const create = randomBytes(256)
    circuit.send(OP.extend, extendTo(next.self.peerId, create), true)
    await settle()
    const [end] = accepted
    expect(end && Buffer.compare(decodeControl(end.frames[0] ?? new Uint8Array(0)), create)).toBe(0)
    const answer = created()
    end?.link.send(answer)
    await settle()
    const extended = circuit.read()
    expect(extended).toMatchObject([{ op: OP.extended }])
    expect(Buffer.compare(extended[0]?.inner ?? Buffer.of(1), decodeControl(answer))).toBe(0)
    const inner = randomBytes(60)
    circuit.send(OP.forward, inner)
    await settle()
    expect(end && Buffer.compare(decodeControl(end.frames[1] ?? new Uint8Array(0)), inner)).toBe(0)
    end?.link.send(encodeControl(COMMAND.control, inner))
    await settle()
    expect(circuit.read()).toMatchObject([{ op: OP.forward }])
  })

  it('outside CONTROL_EARLY, twice, and while one is under way, ends the circuit', async () => {
    const { hop, client, next, accepted } = setUpHop()
    const body = extendTo(next.self.peerId, randomBytes(256))
    await withWitness(hop, client, async () => {
      const late = await openRaw(client, hop, relayMessage)
      expect(await late.ask(OP.extend, body, false)).toBe('ended')
      const impatient = await openRaw(client, hop, relayMessage)
      impatient.send(OP.extend, body, true)
      await settle()
      expect(await impatient.ask(OP.ping, randomBytes(8))).toBe('ended')
      expect(accepted.at(-1)?.ended).toBe(true)
      const twice = await openRaw(client, hop, relayMessage)
      twice.send(OP.extend, body, true)
      await settle()
      accepted.at(-1)?.link.send(created())
      await settle()
      expect(twice.read()).toMatchObject([{ op: OP.extended }])
      expect(await twice.ask(OP.extend, body, true)).toBe('ended')
      expect(accepted.at(-1)?.ended).toBe(true)
    })
  })

  it('to the hop itself, to nobody, and to somebody else than was asked for, fails', async () => {
    const { swarm, hop, client, next } = setUpHop()
    const fails = async (peerId: string, addrs?: string[]) => {
      const circuit = await openRaw(client, hop, relayMessage)
      expect(await circuit.ask(OP.extend, extendTo(peerId, randomBytes(256), addrs), true)).toMatchObject({
        op: OP.extendFail,
      })
      expect(circuit.ended).toBe(false)
      circuit.link.close()
    }
    await fails(hop.peerId, [...hop.transport.self.addrs()])
    expect(hop.transport.streamPeers.has(hop.peerId)).toBe(false)
    await fails(peerOf(110))
    await fails(next.self.peerId, [])
    const { open } = hop.transport
    hop.transport.open = async (target, options) => {
      const link = await open.call(hop.transport, target, options)
      link.onFrame = () => {}
      Object.assign(link, { remotePeer: target.peerId === next.self.peerId ? peerOf(111) : link.remotePeer })
      return link
    }
    swarm.network.node(peerOf(111))
    await fails(next.self.peerId)
  })

  it('fails when the next hop answers with anything but CREATED, ends, or says nothing', async () => {
    for (const answer of [
      encodeControl(COMMAND.control, randomBytes(208)),
      encodeControl(COMMAND.created, randomBytes(207)),
      dataFrame(1_040),
      'end',
      'silence',
    ] as const) {
      const { swarm, hop, client, next, accepted } = setUpHop()
      const circuit = await openRaw(client, hop, relayMessage)
      circuit.send(OP.extend, extendTo(next.self.peerId, randomBytes(256)), true)
      await settle()
      if (answer === 'end') accepted[0]?.link.close()
      else if (answer === 'silence') await swarm.clock.advance(10_001)
      else accepted[0]?.link.send(answer)
      await settle()
      expect(circuit.read()).toMatchObject([{ op: OP.extendFail }])
      expect(accepted[0]?.ended || answer === 'end').toBe(true)
    }
  })

  it('dials no private address for a peer from outside, and no name', async () => {
    const { hop, client } = setUpHop({ local: false })
    for (const addr of [
      '/ip4/127.0.0.1/tcp/9',
      '/ip4/10.0.0.1/tcp/9',
      '/ip4/169.254.169.254/tcp/80',
      '/ip6/::1/tcp/9',
      '/ip6/fd00::1/tcp/9',
      '/dns4/localhost/tcp/9',
      `/ip4/11.0.0.1/tcp/9/p2p/${peerOf(5)}/p2p-circuit`,
    ]) {
      const circuit = await openRaw(client, hop, relayMessage)
      const body = extendTo(peerOf(101), randomBytes(256), [addr])
      expect(await circuit.ask(OP.extend, body, true), addr).toMatchObject({ op: OP.extendFail })
      circuit.link.close()
    }
    expect(hop.transport.dials).toEqual([])
    const circuit = await openRaw(client, hop, relayMessage)
    const many = ['/ip4/12.0.0.1/tcp/9', '/ip4/12.0.0.2/tcp/9', '/ip4/12.0.0.3/tcp/9']
    await circuit.ask(OP.extend, extendTo(peerOf(101), randomBytes(256), many), true)
    expect(hop.transport.dials).toEqual([{ peerId: peerOf(101), addrs: many.slice(0, 2) }])
  })

  it('the 13th CONTROL_EARLY ends the circuit, whatever is in it', async () => {
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop, relayMessage)
    for (let i = 0; i < 12; i++) circuit.send(OP.drop, new Uint8Array(0), true)
    expect(await circuit.ask(OP.ping, randomBytes(8))).toMatchObject({ op: OP.pong })
    circuit.send(OP.drop, new Uint8Array(0), true)
    await settle()
    expect(circuit.ended).toBe(true)
  })
})

describe('the successor', () => {
  async function extended() {
    const all = setUpHop()
    const circuit = await openRaw(all.client, all.hop, relayMessage)
    await circuit.ask(OP.relaySet, rawRelaySet().body)
    circuit.send(OP.extend, extendTo(all.next.self.peerId, randomBytes(256)), true)
    await settle()
    const [end] = all.accepted
    if (end === undefined) throw new Error('not extended')
    end.link.send(encodeControl(COMMAND.created, randomBytes(208)))
    await settle()
    circuit.read()
    end.frames.length = 0
    return { ...all, circuit, end }
  }

  it.each([
    ['DATA', () => dataFrame(1_040)],
    ['CONTROL_EARLY', () => encodeControl(COMMAND.controlEarly, randomBytes(40))],
    ['CREATED again', () => encodeControl(COMMAND.created, randomBytes(208))],
    ['CREATE', () => encodeControl(COMMAND.create, randomBytes(256))],
    ['a backward message too long to be wrapped', () => encodeControl(COMMAND.control, randomBytes(1_020))],
  ])('may not send %s', async (_, frame) => {
    const { hop, client, circuit, end } = await extended()
    await withWitness(hop, client, async () => {
      end.link.send(frame())
      await settle()
      expect(circuit.ended).toBe(true)
      expect(end.ended).toBe(true)
    })
  })

  it.each(['its stream ends', 'DESTROY'])('%s: TRUNCATED, and the state is kept for 15 s', async (how) => {
    const { swarm, hop, circuit, end } = await extended()
    if (how === 'DESTROY') end.link.send(encodeControl(COMMAND.destroy, randomBytes(2)))
    else end.link.close()
    await settle()
    expect(circuit.read()).toMatchObject([{ op: OP.truncated }])
    circuit.send(OP.forward, randomBytes(50))
    circuit.sendFrame(dataFrame(1_040))
    await swarm.clock.advance(14_900)
    expect(circuit.ended).toBe(false)
    await swarm.clock.advance(200)
    expect(circuit.ended).toBe(true)
    expect(hop.service.stats().relayCircuits).toBe(0)
  })

  it('TRUNCATE closes it, and the circuit can be extended and set up anew', async () => {
    const { swarm, next, circuit, end, accepted } = await extended()
    expect(await circuit.ask(OP.truncate)).toMatchObject({ op: OP.ok })
    expect(end.ended).toBe(true)
    expect(end.frames[0]?.[0]).toBe(COMMAND.destroy)
    expect(await circuit.ask(OP.relaySet, rawRelaySet().body)).toMatchObject({ op: OP.ok })
    circuit.send(OP.extend, extendTo(next.self.peerId, randomBytes(256)), true)
    await settle()
    accepted[1]?.link.send(encodeControl(COMMAND.created, randomBytes(208)))
    await swarm.clock.advance(20_000)
    expect(circuit.read()).toMatchObject([{ op: OP.extended }])
    circuit.sendFrame(dataFrame(1_040))
    await settle()
    expect(accepted[1]?.frames.at(-1)?.[0]).toBe(COMMAND.data)
    expect(await circuit.ask(OP.relaySet, rawRelaySet().body)).toBe('ended')
  })

  it('gets DESTROY without a reason when the predecessor goes', async () => {
    const { circuit, end } = await extended()
    circuit.sendFrame(encodeControl(COMMAND.destroy, Buffer.from('because')))
    await settle()
    expect(decodeControl(end.frames[0] ?? new Uint8Array(0)).length).toBe(0)
    expect(end.ended).toBe(true)
  })
})

function withChanged(create: Uint8Array, at: number): Uint8Array {
  create[at] = (create[at] ?? 0) ^ 1
  return encodeControl(COMMAND.create, create)
}
