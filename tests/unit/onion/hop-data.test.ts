import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { bytesOf, createSegmentOpener, createSegmentSealer, type DataHeader, KIND } from '../../../src/onion/data.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { decodeFail, OP } from '../../../src/onion/ops.ts'
import { dataFrame, extendTo, forwardHeader, setUpHop, withWitness } from './hop-under-test.ts'
import { computeMessage, openPipe, openRaw, rawPipe, rawRelaySet, relayMessage } from './raw-client.ts'
import { HIDDEN, rowsFrom } from './swarm.ts'
import { settle } from './virtual-clock.ts'

describe('PIPE_SET', () => {
  it.each([
    ['layers outside those of CREATE', { span: { start: 0, end: 5 } }, 'SPAN'],
    ['another row size', { hiddenSize: HIDDEN + 1 }, 'BAD_INPUT'],
    ['more bytes than the grant', { hiddenSize: 4 * 1_024, maxRows: 512 }, 'BAD_INPUT'],
  ] as const)('with %s is refused with %s, and can be tried again', async (_, change, code) => {
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop)
    const answer = await circuit.ask(OP.pipeSet, rawPipe(change).body)
    expect(answer !== 'ended' && decodeFail(answer.inner)).toEqual({ op: OP.pipeSet, code })
    expect(hop.compute.sessions.size).toBe(0)
    expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toMatchObject({ op: OP.ok })
    expect([...hop.compute.sessions]).toMatchObject([{ predecessor: client.self.peerId, span: { start: 0, end: 4 } }])
  })

  it('twice ends the circuit and frees the KV', async () => {
    const { hop, client } = setUpHop()
    await withWitness(hop, client, async () => {
      const { circuit } = await openPipe(client, hop)
      expect(hop.compute.sessions.size).toBe(1)
      expect(await circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
    })
  })

  it('again after TRUNCATE keeps the KV, with fresh segments only, and only while nothing is under way', async () => {
    const { hop, client } = setUpHop()
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
    createSegmentSealer(busy.segIn, [], nodeCrypto).seal(
      forwardHeader(1),
      bytesOf(rowsFrom(0, 1)),
      busy.circuit.sendFrame,
    )
    await busy.circuit.ask(OP.truncate)
    expect(await busy.circuit.ask(OP.pipeSet, rawPipe().body)).toBe('ended')
  })
})

describe('data', () => {
  it('before PIPE_SET or RELAY_SET ends the circuit', async () => {
    for (const message of [computeMessage, relayMessage]) {
      const { hop, client } = setUpHop()
      await withWitness(hop, client, async () => {
        const circuit = await openRaw(client, hop, message)
        await circuit.ask(OP.ping, randomBytes(8))
        circuit.sendFrame(dataFrame(1_040))
        await settle()
        expect(circuit.ended).toBe(true)
      })
    }
  })

  it('to a hop without a successor ends the circuit', async () => {
    const { hop, client } = setUpHop()
    const relay = await openRaw(client, hop, relayMessage)
    await relay.ask(OP.relaySet, rawRelaySet().body)
    relay.sendFrame(dataFrame(1_040))
    const compute = await openPipe(client, hop)
    createSegmentSealer(compute.segIn, [], nodeCrypto).seal(
      forwardHeader(1),
      bytesOf(rowsFrom(0, 1)),
      compute.circuit.sendFrame,
    )
    await settle()
    expect([relay.ended, compute.circuit.ended]).toEqual([true, true])
    expect(hop.compute.sessions.size).toBe(0)
  })

  it.each<[string, DataHeader, Float32Array, string]>([
    ['NaN', forwardHeader(1), new Float32Array(HIDDEN).fill(Number.NaN), 'BAD_INPUT'],
    ['infinity', forwardHeader(1), new Float32Array(HIDDEN).fill(-1 / 0), 'BAD_INPUT'],
    ['a position beyond what is there', forwardHeader(1, { pos: 1 }), rowsFrom(0, 1), 'BAD_INPUT'],
    ['more positions than reserved', forwardHeader(101, { want: 0 }), rowsFrom(0, 101), 'CONTEXT_TOO_LONG'],
  ])('with %s: FAIL, then the end', async (_, header, rows, code) => {
    const { hop, client } = setUpHop()
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
    const { hop, client } = setUpHop({ queueBytes: 65_536 + 64 * HIDDEN * 4 })
    await withWitness(hop, client, async () => {
      const forged = await openPipe(client, hop)
      createSegmentSealer(forged.segIn, [], nodeCrypto).seal(forwardHeader(1), bytesOf(rowsFrom(0, 1)), (frame) => {
        frame[30] = (frame[30] ?? 0) ^ 1
        forged.circuit.sendFrame(frame)
      })
      const greedy = await openPipe(client, hop)
      hop.compute.gate = new Promise(() => {})
      const sealer = createSegmentSealer(greedy.segIn, [], nodeCrypto)
      const more = () => {
        sealer.seal(forwardHeader(64, { want: 0 }), bytesOf(rowsFrom(0, 64)), greedy.circuit.sendFrame)
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
    const { hop, client, next, accepted } = setUpHop()
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
      forwardHeader(2, { want: 2, step: 0 }),
      forwardHeader(1, { ...plain, kind: KIND.cancel, step: 5 }),
      forwardHeader(1, { ...plain, kind: KIND.padding, totalBytes: 70_000 }),
      forwardHeader(1, { want: 0, pos: 2, step: 1 }),
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
    const { hop, client } = setUpHop()
    const { circuit, segIn } = await openPipe(client, hop)
    circuit.sendFrame(encodeControl(COMMAND.destroy, new Uint8Array(0)))
    createSegmentSealer(segIn, [], nodeCrypto).seal(forwardHeader(1), bytesOf(rowsFrom(0, 1)), circuit.sendFrame)
    await settle()
    expect(hop.compute.steps).toBe(0)
    expect(hop.service.stats().computeCircuits).toBe(0)
  })
})
