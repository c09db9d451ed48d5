import { afterEach, describe, expect, it } from 'vitest'
import { onionLimits } from '../../../src/base/limits.ts'
import { COMMAND } from '../../../src/onion/frames.ts'
import { createFakeLayers, createSwarm, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()
const BEAT_MS = 50
afterEach(() => settle())

/** Data frames by link, as "time size". */
function watch(swarm: Swarm) {
  const links = new Map<string, { atMs: number; bytes: number }[]>()
  swarm.network.tap = (frame, from, to) => {
    if (frame[0] === COMMAND.data) {
      const link = `${swarm.peers.indexOf(from)}>${swarm.peers.indexOf(to)}`
      links.set(link, [...(links.get(link) ?? []), { atMs: swarm.clock.monotonicMs(), bytes: frame.length }])
    }
    return frame
  }
  return links
}
const open = (swarm: Swarm) => swarm.entry.service.openRing(swarm.options('rccr', { cadenceMs: BEAT_MS }), { signal })

describe('a ring with a cadence', () => {
  it('sends one frame of one size at each beat, on every link, whether there is a token or not', async () => {
    const swarm = createSwarm(4)
    const ring = await open(swarm)
    const reference = createFakeLayers({ start: 0, end: 4 })
    reference(0, rowsFrom(0, 3))
    await ring.forward({ pos: 0, hidden: rowsFrom(0, 3), want: 1 })
    const links = watch(swarm)
    // Tokens at times of their own: at once, late, and two that wait for one beat.
    const answers = []
    for (const [pos, waitMs] of [0, 10, 130, 400].entries()) {
      await swarm.clock.advance(waitMs)
      const hidden = rowsFrom(pos + 3, 1)
      answers.push({ hidden, pos: pos + 3, answer: ring.forward({ pos: pos + 3, hidden, want: 1 }) })
    }
    await swarm.clock.advance(1_000)
    for (const { answer, hidden, pos } of answers) {
      expect((await answer).hidden).toEqual(Float32Array.from(reference(pos, hidden)))
    }
    expect([...links.keys()].sort()).toEqual(['0>1', '1>2', '2>3', '3>4', '4>0'])
    for (const [link, frames] of links) {
      expect(new Set(frames.map(({ bytes }) => bytes)).size, link).toBe(1)
      const gaps = frames.slice(1).map(({ atMs }, i) => atMs - (frames[i]?.atMs ?? 0))
      expect(new Set(gaps), link).toEqual(new Set([BEAT_MS]))
      expect(frames.length).toBeGreaterThan(25)
    }
    await ring.close()
    await settle()
    for (const node of [swarm.entry, ...swarm.hops]) expect(node.service.stats()).toEqual(idleStats)
    expect(swarm.clock.timers).toBe(0)
  })

  it('goes on for 5 s after the last token, and no further', async () => {
    const swarm = createSwarm(4)
    const ring = await open(swarm)
    const links = watch(swarm)
    const answer = ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 })
    await swarm.clock.advance(60_000)
    await answer
    expect(links.get('0>1')).toHaveLength(onionLimits.cadenceTailMs / BEAT_MS)
    const again = ring.forward({ pos: 1, hidden: rowsFrom(1, 1), want: 1 })
    await swarm.clock.advance(BEAT_MS)
    await again
    await ring.close()
  })

  it('sends no more padding than 16 frames ahead of what comes back', async () => {
    const swarm = createSwarm(4, { limits: { stepMs: 1e6, silenceMs: 1e6 } })
    const ring = await open(swarm)
    const links = watch(swarm)
    for (const { compute } of swarm.hops) compute.gate = new Promise(() => {})
    ring.forward({ pos: 0, hidden: rowsFrom(0, 1), want: 1 }).catch(() => {})
    await swarm.clock.advance(4_000)
    expect(links.get('0>1')).toHaveLength(1 + onionLimits.paddingUnderWay)
    await ring.close()
  })
})
