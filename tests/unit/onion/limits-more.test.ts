import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import { onionLimits } from '../../../src/base/limits.ts'
import { createRecentMap } from '../../../src/base/recent-map.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { OP } from '../../../src/onion/ops.ts'
import { createCreateLimiter } from '../../../src/onion/rate-limit.ts'
import { setUpHop } from './hop-under-test.ts'
import { openRaw, rawPipe, relayMessage, watchLink } from './raw-client.ts'
import { createSwarm, HIDDEN, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { createVirtualClock, settle } from './virtual-clock.ts'

const { signal } = new AbortController()
const isFrame = (cmd: number) => (frame: Uint8Array) => frame[0] === cmd

describe('how long the entry waits', () => {
  const from = (swarm: Swarm, index: number) => swarm.hops[index]?.peerId
  const cases: [string, keyof typeof onionLimits, string, (swarm: Swarm) => void][] = [
    [
      'connectMs: a first hop that is not reached',
      'connectMs',
      'PEER_UNREACHABLE',
      (swarm) => swarm.network.mute(from(swarm, 0) ?? ''),
    ],
    [
      'createMs: a first hop that does not answer the CREATE',
      'createMs',
      'HOP_TIMEOUT|PEER_UNREACHABLE',
      (swarm) => {
        swarm.network.tap = (frame, sender) => (sender === from(swarm, 0) ? undefined : frame)
      },
    ],
    [
      'extendMs: a hop that does not answer the EXTEND',
      'extendMs',
      'HOP_TIMEOUT',
      (swarm) => {
        const lost = isFrame(COMMAND.control)
        swarm.network.tap = (frame, sender) => (sender === from(swarm, 0) && lost(frame) ? undefined : frame)
      },
    ],
    [
      'opMs: a hop that does not answer the PIPE_SET',
      'opMs',
      'HOP_TIMEOUT',
      (swarm) => {
        // What comes back through the first hop after the two EXTENDED.
        let control = 0
        swarm.network.tap = (frame, sender, to) => {
          const answer = sender === from(swarm, 0) && to === swarm.entry.peerId && frame[0] === COMMAND.control
          return answer && ++control > 2 ? undefined : frame
        }
      },
    ],
  ]
  it.each(cases)('%s', async (_, limit, code, disturb) => {
    const limitMs = Number(onionLimits[limit])
    // The hop's own bounds must not come first.
    const swarm = createSwarm(2, { limits: { halfOpenMs: 1e7, holdMs: 1e7 } })
    disturb(swarm)
    let error: LlmNodeError | undefined
    swarm.entry.service.openRing(swarm.options('cc'), { signal }).catch((thrown: LlmNodeError) => {
      error = thrown
    })
    await swarm.clock.advance(limitMs - 1)
    expect(error).toBeUndefined()
    await swarm.clock.advance(2)
    expect(error?.code).toMatch(new RegExp(code))
    await settle()
    expect(swarm.entry.service.stats()).toEqual(idleStats)
  })

  it('truncatedWaitMs: a return stream that ends, and no TRUNCATED', async () => {
    const swarm = createSwarm(2)
    const ring = await swarm.entry.service.openRing(swarm.options('cc'), { signal })
    let over = false
    void ring.ended.then(() => {
      over = true
    })
    // What the last hop says about it does not get through.
    const lost = isFrame(COMMAND.control)
    swarm.network.tap = (frame, sender) => (sender === swarm.hops[0]?.peerId && lost(frame) ? undefined : frame)
    swarm.network.cut(swarm.hops[1]?.peerId ?? '', swarm.entry.peerId)
    await swarm.clock.advance(onionLimits.truncatedWaitMs - 1)
    expect(over).toBe(false)
    await swarm.clock.advance(2)
    expect(over).toBe(true)
    expect((await ring.ended)?.code).toBe('CIRCUIT_BROKEN')
  })
})

describe('what PIPE_SET may ask for', () => {
  it('a PIPE_SET for one row more than the grant has room for is refused', async () => {
    const room = 10
    const { hop, client } = setUpHop({ queueBytes: onionLimits.frameSpareBytes + room * 4 * HIDDEN })
    const circuit = await openRaw(client, hop)
    expect(await circuit.ask(OP.pipeSet, rawPipe({ maxRows: room + 1 }).body)).toMatchObject({ op: OP.fail })
    expect(await circuit.ask(OP.pipeSet, rawPipe({ maxRows: room }).body)).toMatchObject({ op: OP.ok })
  })

  it('a PIPE_SET for 513 rows ends the circuit', async () => {
    const { hop, client } = setUpHop()
    const fits = await openRaw(client, hop)
    expect(await fits.ask(OP.pipeSet, rawPipe({ maxRows: onionLimits.maxRows }).body)).toMatchObject({ op: OP.ok })
    for (const maxRows of [onionLimits.maxRows + 1, 0xffff]) {
      const circuit = await openRaw(client, hop)
      expect(await circuit.ask(OP.pipeSet, rawPipe({ maxRows }).body)).toBe('ended')
    }
  })
})

it('a peer more than are remembered: the one that was away longest is forgotten', () => {
  const recent = createRecentMap<number>(onionLimits.rememberedPeers)
  for (let i = 0; i <= 10 * onionLimits.rememberedPeers; i++) {
    if (i <= onionLimits.rememberedPeers) expect(recent.size).toBe(i)
    recent.set(`${i}`, i)
    recent.get('1')
  }
  expect(recent.size).toBe(onionLimits.rememberedPeers)
  expect([recent.has('0'), recent.has('1'), recent.has('2')]).toEqual([false, true, false])
})

describe('a thousand times too much', () => {
  it('CREATE: what is refused for its rate is answered with nothing, and costs no handshake', async () => {
    const clock = createVirtualClock()
    const admit = createCreateLimiter(onionLimits, clock)
    let admitted = 0
    for (let i = 0; i < 1_000 * onionLimits.createTotal.burst; i++) {
      if (admit({ peer: `p${i}`, subnet: `11.${i % 250}.${i >> 8}`, trusted: false })) admitted++
    }
    expect(admitted).toBe(onionLimits.createTotal.burst)
  })

  it('streams that say nothing', async () => {
    const { hop, client } = setUpHop()
    const first = watchLink(client.rawLink(hop.peerId))
    let refused = 0
    for (let i = 0; i < 1_000 * onionLimits.halfOpen; i++) {
      const link = client.rawLink(hop.peerId)
      link.onEnd(() => refused++)
      if (i % 1_000 === 0) await settle()
    }
    await settle()
    expect(refused).toBe(1_000 * onionLimits.halfOpen - (4 * onionLimits.halfOpen - 1))
    expect(first.ended).toBe(false)
    expect(hop.service.stats().halfOpenCircuits).toBe(4 * onionLimits.halfOpen)
  })

  it('EARLY frames, frames after the end, and frames before the CREATE', async () => {
    const { hop, client } = setUpHop()
    const circuit = await openRaw(client, hop, relayMessage)
    for (let i = 0; i < 1_000 * onionLimits.earlyFrames && !circuit.ended; i++) {
      circuit.send(OP.drop, new Uint8Array(0), true)
      await settle()
    }
    expect(circuit.ended).toBe(true)
    const early = watchLink(client.rawLink(hop.peerId))
    for (let i = 0; i < 1_000 && !early.ended; i++) {
      early.link.send(encodeControl(COMMAND.control, randomBytes(40)))
      await settle()
    }
    expect(early.ended).toBe(true)
    expect(hop.service.stats()).toEqual(idleStats)
  })

  it('rings', async () => {
    const swarm = createSwarm(1, { limits: { openRings: 1 } })
    const ring = await swarm.entry.service.openRing(swarm.options('c'), { signal })
    for (let i = 0; i < 1_000; i++) {
      await expect(swarm.entry.service.openRing(swarm.options('c'), { signal })).rejects.toMatchObject({
        code: 'LIMIT',
      })
    }
    expect((await ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })).hidden.length).toBe(HIDDEN)
    await ring.close()
  })
})
