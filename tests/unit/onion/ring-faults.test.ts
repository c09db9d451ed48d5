import { describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import { onionLimits } from '../../../src/base/limits.ts'
import { COMMAND } from '../../../src/onion/frames.ts'
import type { Ring } from '../../../src/onion/ring.ts'
import { createSwarm, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()
const open = (swarm: Swarm, shape: string): Promise<Ring> =>
  swarm.entry.service.openRing(swarm.options(shape), { signal })
const step = (ring: Ring, pos = 0) => ring.forward({ pos, hidden: rowsFrom(pos, 1), want: 1 })

/** The error that a promise rejects with, whenever that is. */
function failure(promise: Promise<unknown>): Promise<LlmNodeError> {
  return promise.then(
    () => {
      throw new Error('it did not fail')
    },
    (error: LlmNodeError) => error,
  )
}

function expectNothingLeft(swarm: Swarm, except: readonly number[] = []): void {
  for (const [index, node] of [swarm.entry, ...swarm.hops].entries()) {
    if (except.includes(index)) continue
    expect(node.compute.sessions.size, `KV of node ${index}`).toBe(0)
    expect(node.service.stats(), `node ${index}`).toEqual(idleStats)
  }
}

const nodeIndex = (swarm: Swarm, peerId: string) => swarm.peers.indexOf(peerId)

describe('a bit flipped on any link ends the circuit, and only it', () => {
  const shape = 'rccr'
  // Links of the ring by the index of their sender; node 0 is the entry. Backward frames go against the ring.
  const cases = [0, 1, 2, 3, 4].flatMap((from) => [
    { from, to: (from + 1) % 5, what: 'data' as const },
    { from, to: (from + 1) % 5, what: 'control' as const },
    { from: (from + 1) % 5, to: from, what: 'control' as const },
  ])
  it.each(cases)('$what from node $from to node $to', async ({ from, to, what }) => {
    const swarm = createSwarm(4)
    const [ring, other] = [await open(swarm, shape), await open(swarm, shape)]
    await step(ring)
    let flipped = 0
    swarm.network.tap = (frame, sender, receiver) => {
      const cmd = what === 'data' ? COMMAND.data : COMMAND.control
      const hit = nodeIndex(swarm, sender) === from && nodeIndex(swarm, receiver) === to && frame[0] === cmd
      if (!hit || flipped > 0) return frame
      flipped++
      const broken = Uint8Array.from(frame)
      broken[20] = (broken[20] ?? 0) ^ 1
      return broken
    }
    // For control frames the data is held back, so that the silence makes the entry ask every hop.
    const gates = swarm.hops.map((hop) => hop.compute)
    if (what === 'control') for (const compute of gates) compute.gate = new Promise(() => {})
    const failed = failure(step(ring, 1))
    if (what === 'control') await swarm.clock.advance(300)
    await swarm.clock.advance(500)
    expect((await failed).code).toMatch(/CIRCUIT_BROKEN|HOP_TIMEOUT/)
    expect(flipped).toBe(1)
    for (const compute of gates) compute.gate = Promise.resolve()
    expect((await step(other)).hidden.length).toBe(16)
    await other.close()
    await settle()
    expectNothingLeft(swarm)
  })
})

describe('a hop that dies', () => {
  it.each([0, 1, 2, 3])('hop %i: the broken link is named at once, and all KV is freed', async (dead) => {
    const swarm = createSwarm(4)
    const ring = await open(swarm, 'cccc')
    await step(ring)
    for (const hop of swarm.hops) hop.compute.gate = new Promise(() => {})
    const failed = failure(step(ring, 1))
    await settle()
    swarm.network.kill(swarm.hops[dead]?.peerId ?? '')
    await settle()
    const error = await failed
    expect(error.code).toBe('CIRCUIT_BROKEN')
    expect(error.meta).toMatchObject({ hop: dead, pair: [dead - 1, dead], start: 2 * dead, end: 2 * dead + 2 })
    expect(error.meta.peers).toEqual([dead === 0 ? 'entry' : swarm.peers[dead], swarm.peers[dead + 1]])
    expect((await ring.ended)?.code).toBe('CIRCUIT_BROKEN')
    await settle()
    expectNothingLeft(swarm, [dead + 1])
  })

  it.each([0, 1, 2, 3])('hop %i, cut off without a word: found by PINGs', async (dead) => {
    const swarm = createSwarm(4)
    const ring = await open(swarm, 'ccrc')
    for (let pos = 0; pos < 5; pos++) await step(ring, pos)
    swarm.network.mute(swarm.hops[dead]?.peerId ?? '')
    const failed = failure(step(ring, 5))
    await swarm.clock.advance(onionLimits.silenceMs + onionLimits.pingMs + 100)
    const error = await failed
    expect(error.code).toBe('HOP_TIMEOUT')
    expect(error.meta).toMatchObject({ hop: dead, pair: [dead - 1, dead] })
  })

  it('the way back to the entry alone', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    const [last] = swarm.hops.slice(-1)
    swarm.network.tap = (frame, from, to) =>
      from === last?.peerId && to === swarm.entry.peerId && frame[0] !== COMMAND.created ? undefined : frame
    const failed = failure(step(ring))
    await swarm.clock.advance(onionLimits.silenceMs + onionLimits.pingMs + 100)
    expect((await failed).meta).toMatchObject({ hop: 2, pair: [1, 2], peer: 'entry' })
  })
})

describe('a hop that only is slow', () => {
  it('may leave PINGs unanswered when its result comes: a machine that is short of time is not dead', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    for (let pos = 0; pos < 3; pos++) await step(ring, pos)
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    for (const hop of swarm.hops) hop.compute.gate = gate
    swarm.network.tap = (frame, _, to) =>
      to === swarm.entry.peerId && frame[0] === COMMAND.control ? undefined : frame
    const answer = step(ring, 3)
    await swarm.clock.advance(onionLimits.silenceMs + onionLimits.pingMs - 100)
    release()
    expect((await answer).hidden.length).toBe(16)
    await swarm.clock.advance(onionLimits.pingMs)
    swarm.network.tap = (frame) => frame
    expect((await step(ring, 4)).hidden.length).toBe(16)
    await ring.close()
  })

  it('may answer a PING late: it is not asked twice, and both times the one answer counts', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    for (let pos = 0; pos < 3; pos++) await step(ring, pos)
    const [first] = swarm.hops
    if (first === undefined) throw new Error('no hop')
    const gates = [0, 1].map(() => {
      let release = () => {}
      const gate = new Promise<void>((resolve) => {
        release = resolve
      })
      return { gate, release: () => release() }
    })
    // Of what comes back through the first hop, only one frame gets through: the PONG of the second has to wait.
    swarm.network.block(first.peerId, swarm.entry.peerId)
    for (const [pos, { gate, release }] of gates.entries()) {
      for (const hop of swarm.hops) hop.compute.gate = gate
      const answer = step(ring, 3 + pos)
      await swarm.clock.advance(2 * onionLimits.silenceMs)
      release()
      expect((await answer).hidden.length).toBe(16)
      await swarm.clock.advance(onionLimits.pingMs)
    }
    swarm.network.release(first.peerId, swarm.entry.peerId)
    await settle()
    expect((await step(ring, 5)).hidden.length).toBe(16)
    await ring.close()
  })

  it('is waited for as long as it answers PINGs, until the deadline of the step', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    for (let pos = 0; pos < 3; pos++) await step(ring, pos)
    for (const hop of swarm.hops) hop.compute.gate = new Promise(() => {})
    let failed: LlmNodeError | undefined
    const waiting = failure(step(ring, 3)).then((error) => {
      failed = error
    })
    await swarm.clock.advance(4_900)
    expect(failed).toBeUndefined()
    expect(ring.hopRttMs).toEqual([0, 0])
    await swarm.clock.advance(200)
    await waiting
    expect(failed?.code).toBe('HOP_TIMEOUT')
    expect(failed?.meta).toEqual({ nHops: 2 })
    await settle()
    expectNothingLeft(swarm)
  })

  it('has 30 s for a prefill frame', async () => {
    const swarm = createSwarm(1)
    const ring = await open(swarm, 'c')
    for (const hop of swarm.hops) hop.compute.gate = new Promise(() => {})
    let failed: LlmNodeError | undefined
    const waiting = failure(ring.forward({ pos: 0, hidden: rowsFrom(0, 100), want: 0 })).then((error) => {
      failed = error
    })
    await swarm.clock.advance(29_900)
    expect(failed).toBeUndefined()
    await swarm.clock.advance(200)
    await waiting
    expect(failed?.code).toBe('HOP_TIMEOUT')
  })
})

describe('what a hop refuses', () => {
  it.each(['KV_FULL', 'CONTEXT_TOO_LONG', 'SPAN'] as const)('PIPE_SET with %s', async (refuse) => {
    const swarm = createSwarm(3)
    const [, second] = swarm.hops
    if (second !== undefined) second.compute.refuse = refuse
    const error = await failure(open(swarm, 'ccc'))
    expect(error.code).toBe('PEER_REFUSED')
    expect(error.meta).toMatchObject({ hop: 1, status: refuse, start: 2, end: 4 })
    await settle()
    expectNothingLeft(swarm)
    expect(swarm.network.openLinks).toBe(0)
  })

  it.each([
    ['busy', 'BUSY'],
    [null, 'REJECT'],
  ] as const)('CREATE with %s', async (offerAnswer, status) => {
    for (const index of [0, 2]) {
      const swarm = createSwarm(3)
      const hop = swarm.hops[index]
      if (hop !== undefined) hop.compute.offerAnswer = offerAnswer
      const error = await failure(open(swarm, 'ccc'))
      expect(error.code).toBe('PEER_REFUSED')
      expect(error.meta).toMatchObject({ hop: index, status })
      await settle()
      expectNothingLeft(swarm)
    }
  })

  it('another numerics class than the one asked for', async () => {
    const swarm = createSwarm(1)
    const options = swarm.options('c', { numericsClass: new Uint8Array(32).fill(6) })
    const error = await failure(swarm.entry.service.openRing(options, { signal }))
    expect(error).toMatchObject({ code: 'PEER_REFUSED', meta: { hop: 0, status: 'NUMERICS_CLASS' } })
  })

  it('rows that are not finite', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    const hidden = rowsFrom(0, 1)
    hidden[3] = Number.NaN
    const error = await failure(ring.forward({ pos: 0, hidden, want: 1 }))
    expect(error).toMatchObject({ code: 'PEER_REFUSED', meta: { hop: 0, status: 'BAD_INPUT' } })
    await settle()
    expectNothingLeft(swarm)
  })

  it('a position that it has not reached', async () => {
    const swarm = createSwarm(2)
    const ring = await open(swarm, 'cc')
    await step(ring)
    const error = await failure(step(ring, 2))
    expect(error).toMatchObject({ code: 'PEER_REFUSED', meta: { hop: 0, status: 'BAD_INPUT' } })
  })
})

describe('a hop that computes nonsense', () => {
  it.each([
    ['infinite rows', (rows: Float32Array) => rows.fill(Number.POSITIVE_INFINITY)],
    ['too few rows', (rows: Float32Array) => rows.subarray(1)],
  ])('%s never leave it', async (_, spoil) => {
    const swarm = createSwarm(3)
    const ring = await open(swarm, 'ccc')
    const [, second] = swarm.hops
    if (second !== undefined) second.compute.spoil = spoil
    const error = await failure(step(ring))
    expect(error).toMatchObject({ code: 'CIRCUIT_BROKEN', meta: { hop: 1, pair: [0, 1] } })
    await settle()
    expectNothingLeft(swarm)
  })
})

describe('a last hop that lies under its own keys', () => {
  const lies: [string, (view: DataView) => void][] = [
    ['NaN in the rows', (view) => view.setFloat32(22, Number.NaN, true)],
    ['another step', (view) => view.setUint32(1, 77)],
    ['another position', (view) => view.setUint32(5, 77)],
    ['a forward frame', (view) => view.setUint8(0, 1)],
    ['an unknown kind', (view) => view.setUint8(0, 9)],
    ['two rows instead of one', (view) => view.setUint16(9, 2)],
    [
      'no row instead of one',
      (view) => {
        new Uint8Array(view.buffer, 9).fill(0)
        view.setUint8(13, 1)
        view.setUint32(14, 16)
      },
    ],
    ['more bytes than the rows have', (view) => view.setUint32(18, 65)],
  ]
  it.each(lies)('%s', async (_, lie) => {
    const forge = (index: number, plaintext: Uint8Array, aad: Uint8Array) => {
      const isData = Buffer.from(aad).subarray(0, 8).toString() === 'llm/data'
      if (index === 2 && isData) lie(new DataView(plaintext.buffer))
    }
    const swarm = createSwarm(2, { forge })
    const error = await failure(step(await open(swarm, 'cc')))
    expect(error).toMatchObject({ code: 'HOP_TIMEOUT', meta: { pair: [1, 2] } })
    await settle()
    expectNothingLeft(swarm)
  })

  it.each([
    ['a PONG with another nonce', 9, 3, 'CIRCUIT_BROKEN'],
    ['an OK for another op', 6, 3, 'CIRCUIT_BROKEN'],
    ['an op that was not asked for', 6, 0, 'CIRCUIT_BROKEN'],
  ] as const)('%s', async (_, op, at, code) => {
    const forge = (index: number, plaintext: Uint8Array, aad: Uint8Array) => {
      const isReply = Buffer.from(aad).subarray(0, 10).toString() === 'llm/ctrl/b'
      if (index === 2 && isReply && plaintext[0] === op) plaintext[at] = (plaintext[at] ?? 0) ^ 2
    }
    const swarm = createSwarm(2, { forge })
    for (const hop of swarm.hops) hop.compute.gate = new Promise(() => {})
    const failed = failure(open(swarm, 'cc').then((ring) => step(ring)))
    await swarm.clock.advance(400)
    expect((await failed).code).toBe(code)
  })
})

describe('building', () => {
  it.each([0, 1, 2])('names hop %i when it is not there', async (dead) => {
    const swarm = createSwarm(3)
    swarm.network.kill(swarm.hops[dead]?.peerId ?? '')
    const error = await failure(open(swarm, 'ccc'))
    expect(error.code).toBe('PEER_UNREACHABLE')
    expect(error.meta).toMatchObject({ hop: dead, pair: [dead - 1, dead] })
    await settle()
    expectNothingLeft(swarm, [dead + 1])
  })

  it.each([
    [0, 5_000, 'PEER_UNREACHABLE'],
    [1, 15_000, 'PEER_UNREACHABLE'],
  ])('gives up on hop %i that says nothing after %i ms', async (dead, limitMs, code) => {
    const swarm = createSwarm(3)
    swarm.network.mute(swarm.hops[dead]?.peerId ?? '')
    const failed = failure(open(swarm, 'ccc'))
    await swarm.clock.advance(limitMs + 1)
    expect(await failed).toMatchObject({ code, meta: { hop: dead } })
  })

  it('gives up on a hop that takes the CREATE and never answers', async () => {
    const swarm = createSwarm(1, { limits: { createMs: 9_000 } })
    swarm.network.tap = (frame, from) => (from === swarm.hops[0]?.peerId ? undefined : frame)
    const failed = failure(open(swarm, 'c'))
    await swarm.clock.advance(9_001)
    expect(await failed).toMatchObject({ code: 'HOP_TIMEOUT', meta: { hop: 0 } })
    expect(swarm.network.openLinks).toBe(0)
  })

  it('fails when a hop has not the key that its record promised', async () => {
    const swarm = createSwarm(2)
    const options = swarm.options('cc')
    const onionKey = swarm.entry.onionKey
    for (const index of [0, 1]) {
      const hops = options.hops.map((hop, i) => (i === index ? { ...hop, onionKey } : hop))
      const error = await failure(swarm.entry.service.openRing({ ...options, hops }, { signal }))
      expect(error).toMatchObject({ code: 'PEER_UNREACHABLE', meta: { hop: index } })
    }
  })

  it.each([0, 1])('a CREATED from somebody else is not accepted (hop %i)', async (hop) => {
    const swarm = createSwarm(2)
    let seen = 0
    swarm.network.tap = (frame, from) => {
      if (frame[0] !== COMMAND.created || from !== swarm.hops[hop]?.peerId) return frame
      seen++
      const forged = Uint8Array.from(frame)
      forged[40] = (forged[40] ?? 0) ^ 1
      return forged
    }
    const error = await failure(open(swarm, 'cc'))
    expect(error).toMatchObject({ code: 'AUTH_FAILED', meta: { hop } })
    expect(seen).toBe(1)
    await settle()
    expectNothingLeft(swarm)
  })

  it.each([0, 1, 2])('names the link to hop %i when that dies, at whatever moment', async (dead) => {
    let built = false
    for (let at = 1; !built; at++) {
      const swarm = createSwarm(3)
      const peerId = swarm.hops[dead]?.peerId ?? ''
      let frames = 0
      swarm.network.tap = (frame, from, to) => {
        if ((from === peerId || to === peerId) && ++frames === at) swarm.network.kill(peerId)
        return frame
      }
      const failed = open(swarm, 'ccc').then(
        () => undefined,
        (error: LlmNodeError) => error,
      )
      await swarm.clock.advance(onionLimits.truncatedWaitMs)
      const error = await failed
      built = frames < at
      if (!built && error !== undefined) expect(error.meta, `frame ${at}`).toMatchObject({ pair: [dead - 1, dead] })
    }
  })

  it('stops when it is asked to, and says which hop it was waiting for', async () => {
    for (const dead of [0, 1, 2]) {
      const swarm = createSwarm(3)
      swarm.network.mute(swarm.hops[dead]?.peerId ?? '')
      const abort = new AbortController()
      const failed = failure(swarm.entry.service.openRing(swarm.options('ccc'), { signal: abort.signal }))
      await settle()
      abort.abort()
      expect(await failed).toMatchObject({ code: 'ABORTED', meta: { hop: dead, pair: [dead - 1, dead] } })
      await settle()
      expectNothingLeft(swarm, [dead + 1])
    }
  })

  it('nobody but the last hop can close the ring', async () => {
    const swarm = createSwarm(2)
    // The closing CREATE is lost on the proper way and comes from the first hop instead.
    let stolen: Uint8Array | undefined
    swarm.network.tap = (frame, from, to) => {
      if (frame[0] !== COMMAND.create || to !== swarm.entry.peerId || from !== swarm.hops[1]?.peerId) return frame
      stolen = frame
      return undefined
    }
    const failed = failure(open(swarm, 'cc'))
    await settle()
    const thief = swarm.hops[0]?.transport.rawLink(swarm.entry.peerId)
    let ended = false
    thief?.onEnd(() => {
      ended = true
    })
    if (stolen !== undefined) thief?.send(stolen)
    await settle()
    expect(ended).toBe(true)
    await swarm.clock.advance(onionLimits.extendMs)
    expect(await failed).toMatchObject({ code: 'PEER_UNREACHABLE', meta: { hop: 2 } })
  })

  it('holds no more rings open than the limit', async () => {
    const swarm = createSwarm(1, { limits: { openRings: 2 } })
    const rings = [await open(swarm, 'c'), await open(swarm, 'c')]
    expect((await failure(open(swarm, 'c'))).code).toBe('LIMIT')
    await rings[0]?.close()
    await settle()
    await open(swarm, 'c')
  })
})

it('a service that stops ends its rings and circuits, and takes no new one', async () => {
  const swarm = createSwarm(2)
  const ring = await open(swarm, 'cc')
  await swarm.hops[1]?.service.stop()
  expect((await ring.ended)?.meta).toMatchObject({ hop: 1 })
  const second = await failure(open(swarm, 'cc'))
  expect(second.code).toBe('PEER_UNREACHABLE')
  await swarm.entry.service.stop()
  expect((await failure(open(swarm, 'c'))).code).toBe('ABORTED')
  await settle()
  expectNothingLeft(swarm)
})
