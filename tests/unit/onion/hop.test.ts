import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { bytesOf, createSegmentOpener, createSegmentSealer, type DataHeader, KIND } from '../../../src/onion/data.ts'
import { COMMAND, decodeControl, encodeControl, writeDataHeader } from '../../../src/onion/frames.ts'
import { decodeFail, encodeExtend, OP } from '../../../src/onion/ops.ts'
import type { FrameLink } from '../../../src/onion/ports.ts'
import {
  computeMessage,
  openPipe,
  openRaw,
  type RawEnd,
  rawCreate,
  rawPipe,
  rawRelaySet,
  relayMessage,
  watchLink,
} from './raw-client.ts'
import { createSwarm, HIDDEN, rowsFrom, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

/** Node 0 of the swarm is the hop under test, `client` and `next` are peers without rules. */
function setUp(settings: Parameters<typeof createSwarm>[1] = {}) {
  const swarm = createSwarm(1, settings)
  const client = swarm.network.node(peerOf(100), { local: settings.local ?? true })
  const next = swarm.network.node(peerOf(101), { addrs: ['/ip4/127.0.0.1/tcp/9'] })
  const accepted: RawEnd[] = []
  next.onLink((link) => accepted.push(watchLink(link)))
  const [hop] = swarm.hops
  if (hop === undefined) throw new Error('no hop')
  return { swarm, hop, client, next, accepted }
}
/** Further peer ids: of swarms that are never used. */
const strangers = createSwarm(140).peers
const peerOf = (index: number) => strangers[index] ?? ''

const data = (ctLen: number) => {
  const frame = new Uint8Array(14 + ctLen)
  writeDataHeader(frame, 3, 0)
  return frame
}
const forward = (nTokens: number, change: Partial<DataHeader> = {}): DataHeader => ({
  kind: KIND.forward,
  step: 0,
  pos: 0,
  nTokens,
  want: 1,
  hiddenSize: HIDDEN,
  totalBytes: nTokens * HIDDEN * 4,
  ...change,
})
const extendTo = (peerId: string, create: Uint8Array, addrs = ['/ip4/127.0.0.1/tcp/9']) =>
  encodeExtend({ target: { peerId, addrs }, create })

/** A second circuit that must survive what happens to the first. */
async function withWitness(hop: SwarmNode, client: Parameters<typeof openRaw>[0], attack: () => Promise<void>) {
  const witness = await openRaw(client, hop)
  await attack()
  const answer = await witness.ask(OP.ping, randomBytes(8))
  expect(answer).toMatchObject({ op: OP.pong })
  witness.link.close()
  await settle()
  expect(Object.values(hop.service.stats())).toEqual([0, 0, 0, 0, 0])
  expect(hop.compute.sessions.size).toBe(0)
}

describe('a stream', () => {
  const first: [string, (hop: SwarmNode) => Uint8Array][] = [
    ['CREATED', () => encodeControl(COMMAND.created, randomBytes(208))],
    ['CONTROL', () => encodeControl(COMMAND.control, randomBytes(40))],
    ['CONTROL_EARLY', () => encodeControl(COMMAND.controlEarly, randomBytes(40))],
    ['PADDING', () => encodeControl(COMMAND.padding, randomBytes(40))],
    ['DATA', () => data(1_040)],
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
    const { hop, client } = setUp()
    await withWitness(hop, client, async () => {
      const end = watchLink(client.rawLink(hop.peerId))
      end.link.send(frame(hop))
      await settle()
      expect(end.ended).toBe(true)
      expect(end.frames.filter((answer) => answer[0] === COMMAND.created)).toEqual([])
    })
  })

  it('that says nothing is closed after 10 s', async () => {
    const { swarm, hop, client } = setUp()
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
      data(1_040),
      encodeControl(COMMAND.control, randomBytes(40)),
    ]) {
      const { hop, client } = setUp()
      await withWitness(hop, client, async () => {
        const circuit = await openRaw(client, hop)
        circuit.sendFrame(frame)
        await settle()
        expect(circuit.ended).toBe(true)
      })
    }
    const { hop, client } = setUp()
    const circuit = await openRaw(client, hop)
    circuit.sendFrame(encodeControl(COMMAND.create, rawCreate(hop, computeMessage).create))
    await settle()
    expect(circuit.ended).toBe(true)
  })

  it('ends after 10 s without a control frame', async () => {
    const { swarm, hop, client } = setUp()
    const circuit = await openRaw(client, hop)
    expect(hop.service.stats().halfOpenCircuits).toBe(1)
    await swarm.clock.advance(10_001)
    expect(circuit.ended).toBe(true)
    expect(swarm.clock.timers).toBe(0)
  })

  it('reserves nothing, also when the same CREATE comes again', async () => {
    const { hop, client } = setUp()
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
    ['an unknown op', 13, 0],
    ['PING with another length', OP.ping, 7],
    ['TRUNCATE with a body', OP.truncate, 1],
    ['FORWARD at the last hop', OP.forward, 40],
    ['PIPE_SET of random bytes', OP.pipeSet, 179],
    ['RELAY_SET to a compute hop', OP.relaySet, 77],
  ])('%s ends the circuit', async (_, op, length) => {
    const { hop, client } = setUp()
    await withWitness(hop, client, async () => {
      const circuit = await openRaw(client, hop)
      expect(await circuit.ask(op, new Uint8Array(length).fill(1))).toBe('ended')
    })
  })

  it('PING is answered, DROP and PADDING are not', async () => {
    const { hop, client } = setUp()
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
    const { hop, client } = setUp()
    const circuit = await openRaw(client, hop, relayMessage)
    expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
  })
})

describe('EXTEND', () => {
  const created = () => encodeControl(COMMAND.created, randomBytes(208))

  it('passes CREATE and CREATED on and then forwards', async () => {
    const { hop, client, next, accepted } = setUp()
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
    const { hop, client, next, accepted } = setUp()
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
    const { swarm, hop, client, next } = setUp()
    const fails = async (peerId: string, addrs?: string[]) => {
      const circuit = await openRaw(client, hop, relayMessage)
      expect(await circuit.ask(OP.extend, extendTo(peerId, randomBytes(256), addrs), true)).toMatchObject({
        op: OP.extendFail,
      })
      expect(circuit.ended).toBe(false)
      circuit.link.close()
    }
    await fails(hop.peerId)
    await fails(peerOf(110))
    await fails(next.self.peerId, [])
    const { open } = hop.transport
    hop.transport.open = async (target, options) => {
      const link = await open.call(hop.transport, target, options)
      return Object.create(link, { remotePeer: { value: peerOf(111) } }) as FrameLink
    }
    swarm.network.node(peerOf(111))
    await fails(next.self.peerId)
  })

  it('fails when the next hop answers with anything but CREATED, ends, or says nothing', async () => {
    for (const answer of [
      encodeControl(COMMAND.control, randomBytes(208)),
      encodeControl(COMMAND.created, randomBytes(207)),
      data(1_040),
      'end',
      'silence',
    ] as const) {
      const { swarm, hop, client, next, accepted } = setUp()
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
    const { hop, client } = setUp({ local: false })
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
    const { hop, client } = setUp()
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
    const all = setUp()
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
    ['DATA', () => data(1_040)],
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
    circuit.sendFrame(data(1_040))
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
    circuit.sendFrame(data(1_040))
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

describe('PIPE_SET', () => {
  it.each([
    ['layers outside those of CREATE', { span: { start: 0, end: 5 } }, 'SPAN'],
    ['another row size', { hiddenSize: HIDDEN + 1 }, 'BAD_INPUT'],
    ['more bytes than the grant', { hiddenSize: 4 * 1_024, maxRows: 512 }, 'BAD_INPUT'],
  ] as const)('with %s is refused with %s, and can be tried again', async (_, change, code) => {
    const { hop, client } = setUp()
    const circuit = await openRaw(client, hop)
    const answer = await circuit.ask(OP.pipeSet, rawPipe(change).body)
    expect(answer !== 'ended' && decodeFail(answer.inner)).toEqual({ op: OP.pipeSet, code })
    expect(hop.compute.sessions.size).toBe(0)
    expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toMatchObject({ op: OP.ok })
    expect([...hop.compute.sessions]).toMatchObject([{ predecessor: client.self.peerId, span: { start: 0, end: 4 } }])
  })

  it('twice ends the circuit and frees the KV', async () => {
    const { hop, client } = setUp()
    await withWitness(hop, client, async () => {
      const { circuit } = await openPipe(client, hop)
      expect(hop.compute.sessions.size).toBe(1)
      expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
    })
  })

  it('again after TRUNCATE keeps the KV, with fresh segments only, and only while nothing is under way', async () => {
    const { hop, client } = setUp()
    const again = await openPipe(client, hop)
    await again.circuit.ask(OP.truncate)
    expect(await again.circuit.ask(OP.pipeSet, rawPipe().body)).toMatchObject({ op: OP.ok })
    expect(hop.compute.sessions.size).toBe(1)
    const other = await openPipe(client, hop)
    await other.circuit.ask(OP.truncate)
    const wrong = await other.circuit.ask(OP.pipeSet, rawPipe({ span: { start: 1, end: 4 } }).body)
    expect(wrong !== 'ended' && decodeFail(wrong.inner).code).toBe('BAD_INPUT')
    const { body } = rawPipe()
    expect(await other.circuit.ask(OP.pipeSet, body)).toMatchObject({ op: OP.ok })
    await other.circuit.ask(OP.truncate)
    expect(await other.circuit.ask(OP.pipeSet, body)).toBe('ended')
    const busy = await openPipe(client, hop)
    hop.compute.gate = new Promise(() => {})
    createSegmentSealer(busy.segIn, [], nodeCrypto).seal(forward(1), bytesOf(rowsFrom(0, 1)), busy.circuit.sendFrame)
    await busy.circuit.ask(OP.truncate)
    expect(await busy.circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
  })
})

describe('data', () => {
  it('before PIPE_SET or RELAY_SET ends the circuit', async () => {
    for (const message of [computeMessage, relayMessage]) {
      const { hop, client } = setUp()
      await withWitness(hop, client, async () => {
        const circuit = await openRaw(client, hop, message)
        await circuit.ask(OP.ping, randomBytes(8))
        circuit.sendFrame(data(1_040))
        await settle()
        expect(circuit.ended).toBe(true)
      })
    }
  })

  it('to a hop without a successor ends the circuit', async () => {
    const { hop, client } = setUp()
    const relay = await openRaw(client, hop, relayMessage)
    await relay.ask(OP.relaySet, rawRelaySet().body)
    relay.sendFrame(data(1_040))
    const compute = await openPipe(client, hop)
    createSegmentSealer(compute.segIn, [], nodeCrypto).seal(
      forward(1),
      bytesOf(rowsFrom(0, 1)),
      compute.circuit.sendFrame,
    )
    await settle()
    expect([relay.ended, compute.circuit.ended]).toEqual([true, true])
    expect(hop.compute.sessions.size).toBe(0)
  })

  it.each<[string, DataHeader, Float32Array, string]>([
    ['NaN', forward(1), new Float32Array(HIDDEN).fill(Number.NaN), 'BAD_INPUT'],
    ['infinity', forward(1), new Float32Array(HIDDEN).fill(-1 / 0), 'BAD_INPUT'],
    ['a position beyond what is there', forward(1, { pos: 1 }), rowsFrom(0, 1), 'BAD_INPUT'],
    ['more positions than reserved', forward(101, { want: 0 }), rowsFrom(0, 101), 'CONTEXT_TOO_LONG'],
  ])('with %s: FAIL, then the end', async (_, header, rows, code) => {
    const { hop, client } = setUp()
    await withWitness(hop, client, async () => {
      const { circuit, segIn } = await openPipe(client, hop, { maxRows: 128 })
      createSegmentSealer(segIn, [], nodeCrypto).seal(header, bytesOf(rows), circuit.sendFrame)
      await settle()
      const [answer] = circuit.read()
      expect(answer && decodeFail(answer.inner)).toEqual({ op: OP.forward, code })
      expect(circuit.ended).toBe(true)
    })
  })

  it('with a forged chunk, or a frame beyond the grant, ends the circuit without a word', async () => {
    const { hop, client } = setUp({ queueBytes: 65_536 + 64 * HIDDEN * 4 })
    await withWitness(hop, client, async () => {
      const forged = await openPipe(client, hop)
      createSegmentSealer(forged.segIn, [], nodeCrypto).seal(forward(1), bytesOf(rowsFrom(0, 1)), (frame) => {
        frame[30] = (frame[30] ?? 0) ^ 1
        forged.circuit.sendFrame(frame)
      })
      const greedy = await openPipe(client, hop)
      hop.compute.gate = new Promise(() => {})
      const sealer = createSegmentSealer(greedy.segIn, [], nodeCrypto)
      const more = () => {
        sealer.seal(forward(64, { want: 0 }), bytesOf(rowsFrom(0, 64)), greedy.circuit.sendFrame)
        return settle()
      }
      for (let i = 0; i < 17; i++) await more()
      expect([forged.circuit.ended, greedy.circuit.ended]).toEqual([true, false])
      await more()
      expect([forged.circuit.read(), greedy.circuit.read()]).toEqual([[], []])
      expect([forged.circuit.ended, greedy.circuit.ended]).toEqual([true, true])
    })
  })

  it('cancel and padding go on to the next segment without being computed', async () => {
    const { hop, client, next, accepted } = setUp()
    const { circuit, segIn, segOut } = await openPipe(client, hop)
    circuit.send(OP.extend, extendTo(next.self.peerId, randomBytes(256)), true)
    await settle()
    accepted[0]?.link.send(encodeControl(COMMAND.created, randomBytes(208)))
    await settle()
    const sealer = createSegmentSealer(segIn, [], nodeCrypto)
    const kinds = new Set([KIND.result, KIND.cancel, KIND.padding])
    const grant = { kinds, hiddenSize: HIDDEN, maxRows: 64, maxBytes: 100_000 }
    const opener = createSegmentOpener(segOut, [], grant, nodeCrypto)
    const plain = { nTokens: 0, want: 0, hiddenSize: 0, totalBytes: 0 }
    const headers = [
      forward(2, { want: 2, step: 0 }),
      forward(1, { ...plain, kind: KIND.cancel, step: 5 }),
      forward(1, { ...plain, kind: KIND.padding, totalBytes: 70_000 }),
      forward(1, { want: 0, pos: 2, step: 1 }),
    ]
    for (const header of headers) sealer.seal(header, new Uint8Array(header.totalBytes), circuit.sendFrame)
    await settle()
    const frames = (accepted[0]?.frames ?? []).filter((frame) => frame[0] === COMMAND.data)
    const out = frames.flatMap((frame) => opener.push(frame) ?? [])
    expect(out.map(({ header }) => [header.kind, header.step, header.totalBytes])).toEqual([
      [KIND.result, 0, 2 * HIDDEN * 4],
      [KIND.cancel, 5, 0],
      [KIND.padding, 0, 70_000],
      [KIND.result, 1, 0],
    ])
    expect(hop.compute.steps).toBe(2)
  })

  it('frames after the end change nothing', async () => {
    const { hop, client } = setUp()
    const { circuit, segIn } = await openPipe(client, hop)
    circuit.sendFrame(encodeControl(COMMAND.destroy, new Uint8Array(0)))
    createSegmentSealer(segIn, [], nodeCrypto).seal(forward(1), bytesOf(rowsFrom(0, 1)), circuit.sendFrame)
    await settle()
    expect(hop.compute.steps).toBe(0)
    expect(hop.service.stats().computeCircuits).toBe(0)
  })
})

function withChanged(create: Uint8Array, at: number): Uint8Array {
  create[at] = (create[at] ?? 0) ^ 1
  return encodeControl(COMMAND.create, create)
}
