import { type Logger, silentLogger } from '../../../src/base/logger.ts'
import type { AnswerService } from '../../../src/onion/ports.ts'
import type { HopTarget, Ring } from '../../../src/onion/ring.ts'
import { createMachineNetwork, type Mischief } from './machine-network.ts'
import type { RawCircuit } from './raw-client.ts'
import { createFakeLayers, createSwarm, idleStats, rowsFrom, type Swarm, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

export interface OpenRing {
  readonly entry: SwarmNode
  hops: readonly HopTarget[]
  /** What the ring must agree with, bit by bit. */
  layers: ReturnType<typeof createFakeLayers>
  ring: Ring | undefined
  pos: number
  closed: boolean
  broken: boolean
}

/** The real nodes with everything that is checked about them. Nodes 0 and 1 ask; the others are hops. */
export interface Machine {
  readonly swarm: Swarm
  readonly nodes: readonly SwarmNode[]
  readonly rings: OpenRing[]
  readonly raw: RawCircuit[]
  readonly broken: string[]
  /** Every key with every nonce that it has sealed under, as hex. */
  readonly sealed: Set<string>
  /** Pairs of nodes that some route puts next to each other, as "from to". */
  readonly neighbours: Set<string>
  readonly gates: Map<number, () => void>
  readonly blocked: Set<string>
  readonly gone: Set<number>
  readonly mischief: Mischief
  readonly pending: Promise<unknown>[]
  /** Lies that hop `index` may still tell under its own keys. */
  readonly lies: Map<number, number>
  /** Who has ever been told to lie. */
  readonly liars: Set<number>
}

export const N_ENTRIES = 2
export const N_HOPS = 5
export const HOSTILE = 'hostile'

/** Answers with the request three times, and more than one window of zeros. */
const echo: AnswerService = {
  offer: () => ({ idleS: 600, lifeS: 3_600, queueBytes: 4 * 1_048_576 }),
  async *answer(request) {
    for (let i = 0; i < 3; i++) yield request
    if (request.length > 100) yield new Uint8Array(300_000)
  },
}

/** What an answer to `request` begins with, and its length. */
export function expectedEcho(request: Uint8Array): { beginning: Uint8Array; length: number } {
  const beginning = Uint8Array.from(Buffer.concat([request, request, request]))
  return { beginning, length: beginning.length + (request.length > 100 ? 300_000 : 0) }
}

export function createMachine(seed: number): Machine {
  const broken: string[] = []
  const logger: Logger = Object.assign(Object.create(silentLogger), {
    error: (facts: { err?: unknown }, text: string) => broken.push(`${text}: ${String(facts.err)}`),
  })
  const lies = new Map<number, number>()
  const scheduler = createMachineNetwork(seed)
  const swarm = createSwarm(N_ENTRIES - 1 + N_HOPS, {
    watch: true,
    deliver: scheduler.deliver,
    logger,
    answers: echo,
    forge: (index, plaintext) => {
      const left = lies.get(index) ?? 0
      if (left === 0 || plaintext.length === 0) return
      lies.set(index, left - 1)
      const at = scheduler.random() % Math.min(plaintext.length, 32)
      plaintext[at] = (plaintext[at] ?? 0) ^ (1 + (scheduler.random() % 255))
    },
  })
  swarm.network.tap = scheduler.tap
  const nodes = [swarm.entry, ...swarm.hops]
  return {
    swarm,
    nodes,
    rings: [],
    raw: [],
    broken,
    sealed: new Set(),
    neighbours: new Set(),
    gates: new Map(),
    blocked: new Set(),
    gone: new Set(),
    mischief: scheduler,
    pending: [],
    lies,
    liars: new Set(),
  }
}

export const hopNode = (machine: Machine, index: number): SwarmNode => {
  const node = machine.nodes[N_ENTRIES + (index % N_HOPS)]
  if (node === undefined) throw new Error('no such node')
  return node
}

export function checkAlways(machine: Machine): void {
  const { broken, nodes, neighbours, sealed } = machine
  if (broken.length > 0) throw new Error(broken.join('; '))
  for (const node of nodes) {
    for (const use of node.sealed.splice(0)) {
      if (sealed.has(use)) throw new Error('a key and a nonce sealed twice')
      sealed.add(use)
    }
    for (const peer of node.transport.streamPeers) {
      if (peer !== HOSTILE && !neighbours.has(`${node.peerId} ${peer}`)) throw new Error('a stream to a stranger')
    }
    checkKnowledge(machine, node)
    const stats = node.service.stats()
    if (stats.queuedBytes < 0 || stats.halfOpenCircuits < 0) throw new Error('a counter fell below zero')
  }
}

/** No hop ever opened anything that names a node which is not next to it. */
function checkKnowledge(machine: Machine, node: SwarmNode): void {
  for (const plaintext of node.opened.splice(0)) {
    if (machine.nodes.indexOf(node) < N_ENTRIES) continue
    const text = Buffer.from(plaintext)
    for (const other of machine.nodes) {
      if (other === node || machine.neighbours.has(`${node.peerId} ${other.peerId}`)) continue
      if ([other.addressKey, other.onionKey].some((key) => text.includes(Buffer.from(key))))
        throw new Error('a hop learns of a stranger')
    }
  }
}

/** Everybody lets go: nothing may be left anywhere, and honest nodes still serve. */
export async function checkAllGone(machine: Machine): Promise<void> {
  const { swarm, nodes, gone } = machine
  machine.mischief.stop()
  machine.lies.clear()
  for (const release of machine.gates.values()) release()
  for (const name of machine.blocked) {
    const [from = '', to = ''] = name.split(' ')
    swarm.network.release(from, to)
  }
  for (const node of nodes) {
    node.compute.refuse = undefined
    node.compute.offerAnswer = undefined
    node.compute.gate = Promise.resolve()
  }
  await settle()
  await swarm.clock.advance(60_000)
  for (const open of machine.rings) {
    open.closed = true
    await open.ring?.close()
  }
  for (const { link } of machine.raw) link.close()
  // Circuits built ahead are kept for 5 minutes, idle ones for 10: those must not be what ends them. Nobody says goodbye to a
  // node that is cut off: there the longest life has to end.
  await swarm.clock.advance(gone.size === 0 ? 400_000 : 4_000_000)
  await Promise.all(machine.pending)
  checkAlways(machine)
  for (const [index, node] of nodes.entries()) {
    const what = `node ${index}`
    if (gone.has(index)) continue
    if (JSON.stringify(node.service.stats()) !== JSON.stringify(idleStats)) {
      throw new Error(`${what} still holds ${JSON.stringify(node.service.stats())}`)
    }
    if (node.compute.sessions.size > 0) throw new Error(`${what} still holds KV`)
  }
  await checkStillServes(machine)
  for (const node of nodes) await node.service.stop()
  await swarm.clock.advance(gone.size === 0 ? 0 : 4_000_000)
  for (const [index, node] of nodes.entries()) {
    const left = node.keys.filter((key) => key.some((byte) => byte !== 0)).length
    if (left > 0) throw new Error(`${left} of ${node.keys.length} keys of node ${index} are not overwritten`)
  }
  if (swarm.clock.timers > 0) throw new Error(`${swarm.clock.timers} timers are left`)
}

async function checkStillServes({ swarm, nodes, gone }: Machine): Promise<void> {
  const alive = nodes.filter((_, index) => index >= N_ENTRIES && !gone.has(index)).slice(0, 3)
  const hops = alive.map((node, i) => swarm.target(node, 'compute', { start: 2 * i, end: 2 * i + 2 }))
  const ring = await swarm.entry.service.openRing(
    { ...swarm.options('c'), hops },
    { signal: new AbortController().signal },
  )
  const rows = rowsFrom(0, 3)
  const { hidden } = await ring.forward({ pos: 0, hidden: rows, want: 3 })
  const expected = createFakeLayers({ start: 0, end: 2 * alive.length })(0, rows)
  if (Buffer.compare(Buffer.from(hidden.buffer), Buffer.from(expected.buffer)) !== 0)
    throw new Error('wrong rows in the end')
  await ring.close()
  await settle()
}
