/** What an attacker between two nodes can do with whole frames: each ends the circuit, only it, and frees what it held. */
import { afterEach, describe, expect, it } from 'vitest'
import type { LlmNodeError } from '../../../src/base/errors.ts'
import { COMMAND } from '../../../src/onion/frames.ts'
import type { Ring } from '../../../src/onion/ring.ts'
import type { Tap } from './memory-network.ts'
import { createSwarm, HIDDEN, idleStats, rowsFrom, type Swarm } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const { signal } = new AbortController()
afterEach(() => settle())

/** Frames of one kind over one link; `others` are those that come back over it. */
interface Link {
  readonly from: number
  readonly to: number
  readonly cmd: number
}
type Trick = (frame: Uint8Array, count: number) => ReturnType<Tap>

const ringOf = (swarm: Swarm) => swarm.entry.service.openRing(swarm.options('rccr'), { signal })
const step = (ring: Ring, pos: number) => ring.forward({ pos, hidden: rowsFrom(pos, 1), want: 1 })

function play(swarm: Swarm, { from, to, cmd }: Link, trick: Trick, back?: () => Uint8Array | undefined): () => number {
  let count = 0
  const [sender, receiver] = [swarm.peers[from], swarm.peers[to]]
  swarm.network.tap = (frame, a, b) => {
    if (a === sender && b === receiver && frame[0] === cmd) return trick(frame, count++)
    const reflected = a === receiver && b === sender ? back?.() : undefined
    return reflected === undefined ? frame : [reflected, frame]
  }
  return () => count
}

const tricks: Record<
  string,
  (other: () => Uint8Array | undefined) => { trick: Trick; back?: () => Uint8Array | undefined }
> = {
  replayed: () => ({ trick: (frame, count) => (count === 0 ? [frame, Uint8Array.from(frame)] : frame) }),
  skipped: () => ({ trick: (frame, count) => (count === 0 ? undefined : frame) }),
  reordered: () => {
    let held: Uint8Array | undefined
    return {
      trick: (frame, count) => {
        if (count === 0) {
          held = frame
          return undefined
        }
        return count === 1 && held !== undefined ? [frame, held] : frame
      },
    }
  },
  reflected: () => {
    let seen: Uint8Array | undefined
    return {
      trick: (frame) => {
        seen ??= Uint8Array.from(frame)
        return frame
      },
      back: () => {
        const frame = seen
        if (frame !== undefined) seen = Uint8Array.of()
        return frame?.length === 0 ? undefined : frame
      },
    }
  },
  'put into another circuit': (other) => ({
    trick: (frame, count) => (count === 0 ? (other() ?? frame) : frame),
  }),
}
/** The entry is 0, the hops 1 to 4; backward control goes against the ring. */
const links: (Link & { name: string })[] = [0, 1, 2, 3, 4].flatMap((from) => {
  const to = (from + 1) % 5
  return [
    { name: `data ${from}>${to}`, from, to, cmd: COMMAND.data },
    { name: `control ${from}>${to}`, from, to, cmd: COMMAND.control },
    { name: `control ${to}>${from}`, from: to, to: from, cmd: COMMAND.control },
  ]
})

/** The only control frames on the link back are PINGs of the entry to itself: one that is late is waited for. */
const isHarmless = (what: string, { from, to, cmd }: Link) =>
  cmd === COMMAND.control && Math.abs(from - to) === 4 && (what === 'skipped' || what === 'reordered')

describe.each(Object.keys(tricks))('a frame that is %s', (what) => {
  it.each(links.filter((link) => !isHarmless(what, link)))('$name', async (link) => {
    const swarm = createSwarm(4)
    const [ring, witness, donor] = [await ringOf(swarm), await ringOf(swarm), await ringOf(swarm)]
    await step(ring, 0)
    // A frame of the same place and number in another circuit.
    let stolen: Uint8Array | undefined
    await step(donor, 0)
    play(swarm, link, (frame, count) => {
      if (count === 0) stolen = Uint8Array.from(frame)
      return frame
    })
    await disturbed(swarm, donor)
    swarm.network.tap = (frame) => frame
    const { trick, back } = tricks[what]?.(() => stolen) ?? { trick: (frame: Uint8Array) => frame }
    const played = play(swarm, link, trick, back)
    const outcome = await disturbed(swarm, ring)
    expect(played()).toBeGreaterThan(0)
    expect(outcome?.code).toMatch(/CIRCUIT_BROKEN|HOP_TIMEOUT|PEER_REFUSED/)
    swarm.network.tap = (frame) => frame
    expect((await step(witness, 0)).hidden.length).toBe(HIDDEN)
    await Promise.all([witness.close(), donor.close()])
    await settle()
    for (const [index, node] of [swarm.entry, ...swarm.hops].entries()) {
      expect(node.service.stats(), `node ${index}`).toEqual(idleStats)
      expect(node.compute.sessions.size).toBe(0)
    }
    expect(swarm.network.openLinks).toBe(0)
  })
})

/** Rows while the hops take so long that the entry pings all of them, twice over: every link carries several frames. */
async function disturbed(swarm: Swarm, ring: Ring): Promise<LlmNodeError | undefined> {
  let error: LlmNodeError | undefined
  for (const round of [1, 3]) {
    const gates: (() => void)[] = []
    for (const { compute } of swarm.hops) compute.gate = new Promise((resolve) => gates.push(resolve))
    const rows = [round, round + 1].map((pos) =>
      step(ring, pos).catch((thrown: LlmNodeError) => {
        error ??= thrown
      }),
    )
    await swarm.clock.advance(1_000)
    for (const open of gates) open()
    for (const { compute } of swarm.hops) compute.gate = Promise.resolve()
    await swarm.clock.advance(9_000)
    await Promise.all(rows)
  }
  return error
}

it('a second CREATED ends the circuit', async () => {
  const swarm = createSwarm(2)
  const first = swarm.hops[0]?.peerId
  let created: Uint8Array | undefined
  swarm.network.tap = (frame, from) => {
    if (from === first && frame[0] === COMMAND.created) created = Uint8Array.from(frame)
    return from === first && frame[0] === COMMAND.control && created !== undefined ? [created, frame] : frame
  }
  const opening = swarm.entry.service.openRing(swarm.options('cc'), { signal })
  await expect(opening).rejects.toMatchObject({ code: 'CIRCUIT_BROKEN' })
  await settle()
  for (const { service } of [swarm.entry, ...swarm.hops]) expect(service.stats()).toEqual(idleStats)
})
