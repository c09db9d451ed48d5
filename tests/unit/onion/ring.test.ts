import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import type { Ring } from '../../../src/onion/ring.ts'
import { createFakeLayers, createSwarm, HIDDEN, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()

async function open(swarm: Swarm, shape: string): Promise<Ring> {
  return await swarm.entry.service.openRing(swarm.options(shape), { signal })
}

/** Asks the ring and one process the same, and compares bit by bit. */
async function compare(ring: Ring, shape: string, frames: readonly { pos: number; nRows: number; want: number }[]) {
  const nLayers = 2 * [...shape].filter((kind) => kind === 'c').length
  const reference = createFakeLayers({ start: 0, end: nLayers })
  const answers = await Promise.all(
    frames.map(({ pos, nRows, want }, i) => ring.forward({ pos, hidden: rowsFrom(pos + i, nRows), want })),
  )
  for (const [i, { pos, nRows, want }] of frames.entries()) {
    const expected = reference(pos, rowsFrom(pos + i, nRows)).subarray((nRows - want) * HIDDEN)
    expect(answers[i]?.hidden).toEqual(Float32Array.from(expected))
  }
}

const shapes = ['c', 'cc', 'ccc', 'cccccccc', 'rc', 'cr', 'rcr', 'crc', 'rccr', 'rrccrr', 'rcrccrr', 'ccccccccrrrr']

describe.each(shapes)('a ring of the shape %s', (shape) => {
  it('computes what one process computes, with rollback and frames in flight, and leaves nothing behind', async () => {
    const swarm = createSwarm(shape.length)
    const ring = await open(swarm, shape)
    expect(ring.maxContext).toBe(4_096)
    expect(ring.maxRows).toBe(512)
    await compare(ring, shape, [
      { pos: 0, nRows: 300, want: 0 },
      { pos: 300, nRows: 511, want: 1 },
      { pos: 811, nRows: 1, want: 1 },
      { pos: 812, nRows: 4, want: 4 },
      { pos: 813, nRows: 1, want: 1 },
      { pos: 100, nRows: 2, want: 0 },
      { pos: 102, nRows: 1, want: 1 },
    ])
    expect(ring.hopRttMs).toEqual([...shape].map(() => 0))
    for (const [i, hop] of swarm.hops.entries()) {
      expect(hop.service.stats().computeCircuits).toBe(shape[i] === 'c' ? 1 : 0)
      expect(hop.service.stats().relayCircuits).toBe(shape[i] === 'r' ? 1 : 0)
    }
    await ring.close()
    expect(await ring.ended).toBeUndefined()
    await settle()
    for (const node of [swarm.entry, ...swarm.hops]) {
      expect(node.compute.sessions.size).toBe(0)
      expect(node.service.stats()).toEqual(idleStats)
    }
    expect(swarm.network.openLinks).toBe(0)
    expect(swarm.clock.timers).toBe(0)
  })
})

describe('a ring', () => {
  it('closes under the published keys of the entry just as well', async () => {
    const swarm = createSwarm(2, { published: true })
    await compare(await open(swarm, 'cc'), 'cc', [{ pos: 0, nRows: 1, want: 1 }])
  })

  it('shows no hop any peer but its neighbours, no token, and no key of another', async () => {
    const swarm = createSwarm(6, { watch: true })
    const shape = 'rccrcr'
    const ring = await open(swarm, shape)
    await compare(ring, shape, [{ pos: 0, nRows: 40, want: 1 }])
    const ids = swarm.peers.map((peerId) => peerBytes(peerId))
    for (const [index, node] of [swarm.entry, ...swarm.hops].entries()) {
      if (index === 0) continue
      const before = index - 1
      const after = (index + 1) % swarm.peers.length
      const neighbours = new Set([swarm.peers[before], swarm.peers[after]])
      expect(node.transport.streamPeers).toEqual(neighbours)
      for (const [other, id] of ids.entries()) {
        if (other === index || other === after) continue
        const seen = node.opened.some((plaintext) => Buffer.from(plaintext).includes(id))
        expect(seen, `node ${index} sees node ${other}`).toBe(false)
      }
      expect(node.opened.length).toBeGreaterThan(2)
    }
  })

  it('never seals twice under one key and nonce', async () => {
    const swarm = createSwarm(4, { watch: true })
    const ring = await open(swarm, 'rccr')
    const frames = Array.from({ length: 1_100 }, (_, i) => ({ pos: i, nRows: 1, want: 1 }))
    await compare(ring, 'rccr', frames)
    const sealed = [swarm.entry, ...swarm.hops].flatMap((node) => node.sealed)
    expect(sealed.length).toBeGreaterThan(5_000)
    expect(new Set(sealed).size).toBe(sealed.length)
  })

  it('prints no key and no row, however deep one looks', async () => {
    const swarm = createSwarm(2, { watch: true })
    const ring = await open(swarm, 'rc')
    await ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })
    const options = { depth: null, showHidden: true, maxArrayLength: null, maxStringLength: null }
    const shown = [ring, swarm.entry.service, swarm.hops[0]?.service, JSON.stringify(ring)]
      .map((value) => inspect(value, options))
      .join()
    const keys = new Set([swarm.entry, ...swarm.hops].flatMap((node) => node.sealed.map((pair) => pair.slice(0, 64))))
    expect(keys.size).toBeGreaterThan(10)
    for (const key of keys) {
      expect(shown).not.toContain([...Buffer.from(key, 'hex').subarray(0, 8)].join(', '))
      expect(shown).not.toContain(key.slice(0, 16))
    }
    expect(shown).not.toContain('Float32Array')
  })

  it('never has more under way than the smallest grant, and loses nothing by it', async () => {
    const queueBytes = 200_000
    const swarm = createSwarm(2, { queueBytes })
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    for (const hop of swarm.hops) hop.compute.gate = gate
    const ring = await open(swarm, 'cc')
    expect(ring.maxRows).toBe(512)
    let bytes = 0
    swarm.network.tap = (frame, from) => {
      if (from === swarm.entry.peerId && frame[0] === 16) bytes += frame.length
      return frame
    }
    const answers = Promise.all(
      Array.from({ length: 40 }, (_, i) => ring.forward({ pos: i * 50, hidden: rowsFrom(i, 50), want: 1 })),
    )
    await settle()
    expect(bytes).toBeGreaterThan(queueBytes - 6_000)
    expect(bytes).toBeLessThanOrEqual(queueBytes)
    release()
    expect((await answers).length).toBe(40)
  })

  it('refuses frames that do not fit, without harm', async () => {
    const swarm = createSwarm(1, { queueBytes: 65_536 + 10 * 4 * HIDDEN })
    const ring = await open(swarm, 'c')
    expect(ring.maxRows).toBe(10)
    const wrong = [
      { pos: 0, hidden: rowsFrom(0, 11), want: 1 },
      { pos: 0, hidden: new Float32Array(0), want: 0 },
      { pos: 0, hidden: new Float32Array(HIDDEN + 1), want: 1 },
      { pos: 0, hidden: rowsFrom(0, 1), want: 2 },
      { pos: -1, hidden: rowsFrom(0, 1), want: 1 },
      { pos: 0.5, hidden: rowsFrom(0, 1), want: 1 },
    ]
    for (const frame of wrong) await expect(ring.forward(frame)).rejects.toMatchObject({ code: 'BAD_INPUT' })
    const beyond = ring.forward({ pos: 4_096, hidden: rowsFrom(0, 1), want: 1 })
    await expect(beyond).rejects.toMatchObject({ code: 'CONTEXT_TOO_LONG' })
    await compare(ring, 'c', [{ pos: 0, nRows: 10, want: 10 }])
  })

  it('is refused for a route that cannot be one', async () => {
    const swarm = createSwarm(13)
    const bad = [
      swarm.options('rr'),
      swarm.options('ccccccccc'),
      swarm.options('crrrrr'),
      { ...swarm.options('c'), hops: [] },
      { ...swarm.options('cc'), hops: [...swarm.options('c').hops, ...swarm.options('c').hops] },
      { ...swarm.options('c'), hops: [swarm.target(swarm.entry, 'compute', { start: 0, end: 1 })] },
      { ...swarm.options('ccc'), hops: swarm.options('ccc').hops.filter((_, i) => i !== 1) },
      swarm.options('c', { modelId: new Uint8Array(31) }),
    ]
    for (const options of bad) {
      await expect(swarm.entry.service.openRing(options, { signal })).rejects.toMatchObject({ code: 'BAD_INPUT' })
    }
    expect(swarm.network.openLinks).toBe(0)
  })

  it('rejects what is under way when it is closed', async () => {
    const swarm = createSwarm(1)
    const ring = await open(swarm, 'c')
    const [hop] = swarm.hops
    if (hop === undefined) throw new Error('no hop')
    hop.compute.gate = new Promise(() => {})
    const pending = ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })
    await ring.close()
    await expect(pending).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })).rejects.toMatchObject({ code: 'ABORTED' })
  })
})

/** The 32 key bytes inside a peer id: they would be there in any encoding of it. */
function peerBytes(peerId: string): Buffer {
  const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
  let value = 0n
  for (const char of peerId) value = value * 58n + BigInt(alphabet.indexOf(char))
  return Buffer.from(value.toString(16).padStart(76, '0').slice(-64), 'hex')
}

afterEach(() => settle())
