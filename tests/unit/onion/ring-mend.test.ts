import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import { onionLimits } from '../../../src/base/limits.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { createSegmentSealer } from '../../../src/onion/data.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { encodeOutSet, newSegment, OP } from '../../../src/onion/ops.ts'
import type { HopTarget, Ring } from '../../../src/onion/ring.ts'
import { extendTo, forwardHeader, setUpHop } from './hop-under-test.ts'
import { openPipe } from './raw-client.ts'
import { createFakeLayers, createSwarm, HIDDEN, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()
const failure = (promise: Promise<unknown>): Promise<LlmNodeError> =>
  promise.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: LlmNodeError) => error,
  )
const openMendable = (swarm: Swarm, shape: string) =>
  swarm.entry.service.openRing(swarm.options(shape, { mendable: true }), { signal })
const spare = (swarm: Swarm, index: number, role: 'relay' | 'compute', start = 0): HopTarget => {
  const node = swarm.hops[index]
  if (node === undefined) throw new Error('no such node')
  return swarm.target(node, role, role === 'relay' ? undefined : { start, end: start + 2 })
}
const kill = (swarm: Swarm, index: number) => swarm.network.kill(swarm.hops[index]?.peerId ?? '')

/** A transcript of single rows through a ring and through one process; they have to agree bit by bit. */
function transcript(nLayers: number) {
  const reference = createFakeLayers({ start: 0, end: nLayers })
  const expected: Float32Array[] = []
  return async (ring: Ring, from: number, to: number) => {
    for (let pos = from; pos < to; pos++) {
      if (expected.length === pos) expected.push(Float32Array.from(reference(pos, rowsFrom(pos, 1))))
      const { hidden } = await ring.forward({ pos, hidden: rowsFrom(pos, 1), want: 1 })
      expect(hidden, `row ${pos}`).toEqual(expected[pos])
    }
  }
}

async function expectNothingLeft(swarm: Swarm, dead: readonly number[] = []): Promise<void> {
  await settle()
  for (const [index, node] of [swarm.entry, ...swarm.hops].entries()) {
    if (dead.includes(index - 1)) continue
    expect(node.compute.sessions.size, `KV of node ${index}`).toBe(0)
    expect(node.service.stats(), `node ${index}`).toEqual(idleStats)
  }
}

describe('a mendable ring', () => {
  it.each([
    { shape: 'ccc', dead: 2, keep: 2, fresh: 'c', start: 4 },
    { shape: 'ccc', dead: 1, keep: 1, fresh: 'cc', start: 2 },
    { shape: 'rcccr', dead: 3, keep: 3, fresh: 'cr', start: 4 },
    { shape: 'rccr', dead: 3, keep: 3, fresh: 'r', start: 4 },
    // The cut may lie before the break: the relay in between goes, too.
    { shape: 'ccrc', dead: 3, keep: 2, fresh: 'c', start: 4 },
  ])('$shape goes on after hop $dead has died', async ({ shape, dead, keep, fresh, start }) => {
    const swarm = createSwarm(shape.length + 2, { watch: true })
    const ring = await openMendable(swarm, shape)
    const run = transcript(2 * [...shape].filter((kind) => kind === 'c').length)
    await run(ring, 0, 5)
    // A frame is on its way when it happens, and a hop that stays is still computing it.
    const kept = swarm.hops[keep - 1]?.compute
    let open = () => {}
    if (kept !== undefined) kept.gate = new Promise((resolve) => (open = () => resolve()))
    const failed = failure(ring.forward({ pos: 5, hidden: rowsFrom(5, 1), want: 1 }))
    await settle()
    kill(swarm, dead)
    const error = await failed
    expect(error).toMatchObject({ code: 'CIRCUIT_BROKEN', meta: { hop: dead, pair: [dead - 1, dead] } })
    expect((await ring.ended)?.code).toBe('CIRCUIT_BROKEN')
    await settle()
    const sessions = swarm.hops.slice(0, keep).flatMap(({ compute }) => [...compute.sessions])
    let at = start
    const hops = [...fresh].map((kind, i) => {
      const target = spare(swarm, shape.length + i, kind === 'r' ? 'relay' : 'compute', at)
      if (kind === 'c') at += 2
      return target
    })
    const mended = await ring.mend({ keep, hops }, { signal })
    open()
    await settle()
    // New layers hold no KV: from the start again, on the same reservations.
    await run(mended, fresh.includes('c') ? 0 : 5, 8)
    expect(swarm.hops.slice(0, keep).flatMap(({ compute }) => [...compute.sessions])).toEqual(sessions)
    expect(sessions.length).toBeGreaterThan(0)
    const used = swarm.hops.flatMap(({ sealed }) => sealed)
    expect(new Set(used).size).toBe(used.length)
    // The old ring has nothing to say any more.
    await ring.close()
    await run(mended, 8, 9)
    await mended.close()
    await expectNothingLeft(swarm, [dead])
  })

  it('goes on after a hop fell silent, and after the way back alone broke', async () => {
    const swarm = createSwarm(4)
    const ring = await openMendable(swarm, 'cc')
    const run = transcript(4)
    await run(ring, 0, 3)
    swarm.network.mute(swarm.hops[1]?.peerId ?? '')
    const failed = failure(ring.forward({ pos: 3, hidden: rowsFrom(3, 1), want: 1 }))
    await swarm.clock.advance(onionLimits.silenceMs + onionLimits.pingMs + 100)
    expect(await failed).toMatchObject({ code: 'HOP_TIMEOUT', meta: { hop: 1 } })
    const second = await ring.mend({ keep: 1, hops: [spare(swarm, 2, 'compute', 2)] }, { signal })
    await run(second, 0, 5)
    swarm.network.tap = (frame, from, to) =>
      from === swarm.hops[2]?.peerId && to === swarm.entry.peerId && frame[0] === 16 ? undefined : frame
    const lost = failure(second.forward({ pos: 5, hidden: rowsFrom(5, 1), want: 1 }))
    await swarm.clock.advance(60_000)
    expect((await lost).code).toBe('HOP_TIMEOUT')
    swarm.network.tap = (frame) => frame
    await second.close()
    expect(swarm.entry.service.stats().openRings).toBe(0)
  })

  it('is gone after 10 s, or when it is closed', async () => {
    for (const how of ['time', 'close'] as const) {
      const swarm = createSwarm(3)
      const ring = await openMendable(swarm, 'cc')
      kill(swarm, 1)
      await settle()
      expect(swarm.hops[0]?.compute.sessions.size).toBe(1)
      expect(swarm.entry.service.stats().openRings).toBe(1)
      if (how === 'close') await ring.close()
      else await swarm.clock.advance(onionLimits.mendMs + 1)
      await expectNothingLeft(swarm, [1])
      const { code } = await failure(ring.mend({ keep: 1, hops: [spare(swarm, 2, 'compute', 2)] }, { signal }))
      expect(code).toMatch(/CIRCUIT_BROKEN|ABORTED/)
    }
  })

  it('is closed with its node, also while it is being mended', async () => {
    const swarm = createSwarm(3)
    const ring = await openMendable(swarm, 'cc')
    kill(swarm, 1)
    await settle()
    swarm.network.mute(swarm.hops[2]?.peerId ?? '')
    const mending = failure(ring.mend({ keep: 1, hops: [spare(swarm, 2, 'compute', 2)] }, { signal }))
    await settle()
    await swarm.entry.service.stop()
    expect((await mending).code).toBe('ABORTED')
    await settle()
    expect(swarm.hops[0]?.service.stats()).toEqual(idleStats)
  })

  it('cannot be mended into what it is not', async () => {
    const wrong: [string, (swarm: Swarm) => { keep: number; hops: HopTarget[] }][] = [
      ['rccr', (swarm) => ({ keep: 1, hops: [spare(swarm, 4, 'compute', 0), spare(swarm, 5, 'compute', 2)] })],
      ['cc', () => ({ keep: 1, hops: [] })],
      ['cc', (swarm) => ({ keep: 1, hops: [spare(swarm, 4, 'compute', 4)] })],
      ['cc', (swarm) => ({ keep: 1, hops: [spare(swarm, 0, 'compute', 2)] })],
    ]
    for (const [shape, change] of wrong) {
      const swarm = createSwarm(6)
      const ring = await openMendable(swarm, shape)
      kill(swarm, shape.length - 1)
      await settle()
      expect((await failure(ring.mend(change(swarm), { signal }))).code).toBe('BAD_INPUT')
      await expectNothingLeft(swarm, [shape.length - 1])
    }
    const swarm = createSwarm(2)
    const whole = await openMendable(swarm, 'cc')
    expect((await failure(whole.mend({ keep: 1, hops: [spare(swarm, 1, 'compute', 2)] }, { signal }))).code).toBe(
      'BAD_INPUT',
    )
    const plain = await swarm.entry.service.openRing(swarm.options('c'), { signal })
    expect((await failure(plain.mend({ keep: 1, hops: [] }, { signal }))).code).toBe('BAD_INPUT')
  })

  it('takes no more than the 12 extensions of a circuit, and no more bytes than the kept hops grant', async () => {
    const swarm = createSwarm(4)
    let ring = await openMendable(swarm, 'cc')
    let mends = 0
    for (;;) {
      swarm.network.cut(swarm.hops[0]?.peerId ?? '', swarm.hops[1 + (mends % 2)]?.peerId ?? '')
      await settle()
      const next = ring.mend({ keep: 1, hops: [spare(swarm, 1 + ((mends + 1) % 2), 'compute', 2)] }, { signal })
      const outcome = await next.catch((error: LlmNodeError) => error)
      if (!('forward' in outcome)) {
        expect(outcome.code).toBe('LIMIT')
        break
      }
      ring = outcome
      mends++
    }
    // 2 EARLY for building, 2 for each mending.
    expect(mends).toBe(5)
    await expectNothingLeft(swarm)

    const full = await openMendable(swarm, 'cc')
    for (const { compute } of swarm.hops) compute.gate = new Promise(() => {})
    const big = Array.from({ length: 129 }, () => failure(full.forward({ pos: 0, hidden: rowsFrom(0, 512), want: 0 })))
    await settle()
    kill(swarm, 1)
    await Promise.all(big)
    const { code } = await failure(full.mend({ keep: 1, hops: [spare(swarm, 2, 'compute', 2)] }, { signal }))
    expect(code).toBe('LIMIT')
  })
})

describe('OUT_SET', () => {
  const outSet = (fromStep = 0) => encodeOutSet({ fromStep, segOut: newSegment(nodeCrypto.random) })

  it('before a TRUNCATE, twice, or with a segment seen before ends the circuit', async () => {
    const { hop, client } = setUpHop()
    const early = await openPipe(client, hop)
    expect(await early.circuit.ask(OP.outSet, outSet())).toBe('ended')
    const twice = await openPipe(client, hop)
    await twice.circuit.ask(OP.truncate)
    expect(await twice.circuit.ask(OP.outSet, outSet())).toMatchObject({ op: OP.ok })
    expect(await twice.circuit.ask(OP.outSet, outSet())).toBe('ended')
    const again = await openPipe(client, hop)
    await again.circuit.ask(OP.truncate)
    expect(await again.circuit.ask(OP.outSet, encodeOutSet({ fromStep: 0, segOut: again.segOut }))).toBe('ended')
    const long = await openPipe(client, hop)
    await long.circuit.ask(OP.truncate)
    expect(await long.circuit.ask(OP.outSet, randomBytes(89))).toBe('ended')
  })

  it('lets nothing out that was under way', async () => {
    const { hop, client, next, accepted } = setUpHop()
    const { circuit, segIn } = await openPipe(client, hop)
    const sealer = createSegmentSealer(segIn, [], nodeCrypto)
    const push = (step: number) =>
      sealer.seal(forwardHeader(1, { step, pos: step }), new Uint8Array(4 * HIDDEN), (frame) =>
        circuit.sendFrame(frame),
      )
    circuit.send(OP.extend, extendTo(next.self.peerId, randomBytes(256)), true)
    await settle()
    accepted[0]?.link.send(encodeControl(COMMAND.created, randomBytes(208)))
    await settle()
    push(0)
    await settle()
    expect(accepted[0]?.frames.filter((frame) => frame[0] === COMMAND.data)).toHaveLength(1)
    circuit.read()
    expect(await circuit.ask(OP.truncate)).toMatchObject({ op: OP.ok })
    circuit.send(OP.extend, extendTo(next.self.peerId, randomBytes(256)), true)
    await settle()
    accepted[1]?.link.send(encodeControl(COMMAND.created, randomBytes(208)))
    await settle()
    circuit.read()
    push(1)
    expect(await circuit.ask(OP.outSet, outSet(3))).toMatchObject({ op: OP.ok })
    push(2)
    push(3)
    await settle()
    expect(accepted[1]?.frames.filter((frame) => frame[0] === COMMAND.data)).toHaveLength(1)
  })
})
