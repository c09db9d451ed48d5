import fc from 'fast-check'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { type Logger, silentLogger } from '../../../src/base/logger.ts'
import type { Span } from '../../../src/base/span.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { encodeExtend, OP } from '../../../src/onion/ops.ts'
import type { HopTarget, Ring, RingResult } from '../../../src/onion/ring.ts'
import { createMachineNetwork, type Mischief } from './machine-network.ts'
import { openRaw, type RawCircuit, rawCreate, relayMessage } from './raw-client.ts'
import { createFakeLayers, createSwarm, idleStats, rowsFrom, type Swarm, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

/** One hop of a ring that a command opens: which node, and whether it computes. */
interface Step {
  readonly node: number
  readonly computes: boolean
}

interface OpenRing {
  readonly hops: readonly HopTarget[]
  readonly span: Span
  /** What the ring must agree with, bit by bit. */
  readonly layers: ReturnType<typeof createFakeLayers>
  ring: Ring | undefined
  pos: number
  closed: boolean
}

/** The real nodes with everything that is checked about them. Nodes 0 and 1 ask; the others are hops. */
export interface Machine {
  readonly swarm: Swarm
  readonly nodes: readonly SwarmNode[]
  readonly rings: OpenRing[]
  readonly raw: RawCircuit[]
  readonly broken: string[]
  /** Pairs of nodes that some route puts next to each other, as "from to". */
  readonly neighbours: Set<string>
  readonly gates: Map<number, () => void>
  readonly blocked: Set<string>
  readonly gone: Set<number>
  readonly mischief: Mischief
  readonly pending: Promise<unknown>[]
  /** Lies that hop `index` may still tell under its own keys. */
  readonly lies: Map<number, number>
}

export const N_ENTRIES = 2
export const N_HOPS = 5
const HOSTILE = 'hostile'

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
    neighbours: new Set(),
    gates: new Map(),
    blocked: new Set(),
    gone: new Set(),
    mischief: scheduler,
    pending: [],
    lies,
  }
}

type Command = fc.AsyncCommand<Record<string, never>, Machine>

function command(name: string, run: (machine: Machine) => Promise<void> | void): Command {
  return {
    check: () => true,
    toString: () => name,
    async run(_, machine) {
      await run(machine)
      await settle()
      checkAlways(machine)
    },
  }
}

const hopNode = (machine: Machine, index: number): SwarmNode => {
  const node = machine.nodes[N_ENTRIES + (index % N_HOPS)]
  if (node === undefined) throw new Error('no such node')
  return node
}

const openCommand = (entryIndex: number, steps: readonly Step[]): Command =>
  command(
    `open(${entryIndex}, ${steps.map(({ node, computes }) => `${computes ? 'c' : 'r'}${node}`).join(' ')})`,
    (machine) => {
      const entry = machine.nodes[entryIndex % N_ENTRIES]
      if (entry === undefined) return
      let start = 0
      const chosen = new Set<SwarmNode>()
      const hops = steps.flatMap(({ node, computes }): HopTarget[] => {
        const hop = hopNode(machine, node)
        if (chosen.has(hop)) return []
        chosen.add(hop)
        if (!computes) return [machine.swarm.target(hop, 'relay')]
        start += 2
        return [machine.swarm.target(hop, 'compute', { start: start - 2, end: start })]
      })
      if (start === 0) return
      const route = [entry, ...chosen, entry]
      for (const [i, node] of route.entries()) {
        const next = route[i + 1]
        if (next !== undefined)
          machine.neighbours.add(`${node.peerId} ${next.peerId}`).add(`${next.peerId} ${node.peerId}`)
      }
      const span = { start: 0, end: start }
      const open: OpenRing = { hops, span, layers: createFakeLayers(span), ring: undefined, pos: 0, closed: false }
      machine.rings.push(open)
      const { signal } = new AbortController()
      const options = { ...machine.swarm.options('c'), hops }
      const built = entry.service.openRing(options, { signal }).then((ring) => {
        open.ring = ring
        if (open.closed) void ring.close()
      })
      machine.pending.push(expectOwnError(machine, built))
    },
  )

/** Errors of ours are how things fail; any other one is a fault of the code. */
function expectOwnError(machine: Machine, promise: Promise<unknown>): Promise<void> {
  return promise.then(
    () => undefined,
    (error: unknown) => {
      if (!isLlmNodeError(error) || error.code === 'INTERNAL') machine.broken.push(String(error))
    },
  )
}

const forwardCommand = (which: number, nRows: number, back: number): Command =>
  command(`forward(${which}, ${nRows} rows, ${back} back)`, (machine) => {
    const open = machine.rings[which % Math.max(1, machine.rings.length)]
    if (open?.ring === undefined || open.closed) return
    const pos = Math.max(0, open.pos - back)
    open.pos = pos + nRows
    const hidden = rowsFrom(pos, nRows)
    const expected = open.layers(pos, hidden)
    const answer = open.ring.forward({ pos, hidden, want: nRows }).then(({ hidden: rows }: RingResult) => {
      if (Buffer.compare(Buffer.from(rows.buffer), Buffer.from(expected.buffer)) === 0) return
      // A hop that lies about its rows cannot be seen through by the circuit; nothing else may change them.
      if (open.hops.some((hop) => machine.lies.has(machine.nodes.findIndex((node) => node.peerId === hop.peerId))))
        return
      machine.broken.push(`wrong rows came out of a ring of ${open.hops.length} hops`)
    })
    machine.pending.push(expectOwnError(machine, answer))
  })

const closeCommand = (which: number): Command =>
  command(`close(${which})`, async (machine) => {
    const open = machine.rings[which % Math.max(1, machine.rings.length)]
    if (open === undefined) return
    open.closed = true
    await open.ring?.close()
  })

const advanceCommand = (ms: number): Command => command(`advance(${ms} ms)`, ({ swarm }) => swarm.clock.advance(ms))

const goneCommand = (hop: number, how: 'kill' | 'mute'): Command =>
  command(`${how}(${hop})`, (machine) => {
    if (machine.gone.size >= 2) return
    machine.gone.add(machine.nodes.indexOf(hopNode(machine, hop)))
    machine.swarm.network[how](hopNode(machine, hop).peerId)
  })

const gateCommand = (hop: number): Command =>
  command(`gate(${hop})`, (machine) => {
    const { compute } = hopNode(machine, hop)
    const opened = machine.gates.get(hop)
    machine.gates.delete(hop)
    if (opened !== undefined) opened()
    else {
      compute.gate = new Promise((resolve) => {
        machine.gates.set(hop, resolve)
      })
    }
  })

const blockCommand = (from: number, to: number): Command =>
  command(`block(${from}, ${to})`, (machine) => {
    const [a, b] = [from, to].map((index) => machine.nodes[index % machine.nodes.length]?.peerId ?? '')
    const name = `${a} ${b}`
    if (a === undefined || b === undefined || a === b) return
    if (machine.blocked.delete(name)) machine.swarm.network.release(a, b)
    else {
      machine.blocked.add(name)
      machine.swarm.network.block(a, b)
    }
  })

const mischiefCommand = (kind: Parameters<Mischief['plan']>[0], after: number): Command =>
  command(`${kind}(after ${after} frames)`, ({ mischief }) => mischief.plan(kind, after))

const lieCommand = (hop: number, times: number): Command =>
  command(`lie(${hop}, ${times} times)`, ({ lies }) => {
    lies.set(N_ENTRIES + (hop % N_HOPS), times)
  })

const refuseCommand = (hop: number, how: number): Command =>
  command(`refuse(${hop}, ${how})`, (machine) => {
    const { compute } = hopNode(machine, hop)
    compute.refuse = ([undefined, 'KV_FULL', 'CONTEXT_TOO_LONG', 'SPAN'] as const)[how % 4]
    compute.offerAnswer = ([undefined, 'busy', null] as const)[how % 3]
  })

/** A stranger opens a circuit by hand. */
const strangerCommand = (hop: number, then: number): Command =>
  command(`stranger(${hop}, ${then})`, async (machine) => {
    const target = hopNode(machine, hop)
    const from = strangerOf(machine)
    machine.neighbours.add(`${target.peerId} ${HOSTILE}`)
    if (machine.gone.has(machine.nodes.indexOf(target))) return
    // A hop that lies in its CREATED is not read any further.
    const circuit = await openRaw(from, target, then % 2 === 0 ? relayMessage : undefined).catch(() => undefined)
    if (circuit !== undefined) machine.raw.push(circuit)
  })

const abuseCommand = (which: number, how: number, bytes: Uint8Array): Command =>
  command(`abuse(${which}, ${how})`, (machine) => {
    const circuit = machine.raw[which % Math.max(1, machine.raw.length)]
    if (circuit === undefined || circuit.ended) return
    abuse(machine, circuit, how, bytes)
  })

function abuse(machine: Machine, circuit: RawCircuit, how: number, bytes: Uint8Array): void {
  const victim = machine.nodes.find(({ peerId }) => peerId === circuit.link.remotePeer)
  const target = hopNode(machine, how + (bytes[0] ?? 0))
  const cmd = Object.values(COMMAND)[how % 7] ?? 1
  if (how % 3 === 0) circuit.sendFrame(encodeControl(cmd, bytes))
  else if (how % 3 === 1 && circuit.grant?.status === 'OK') circuit.send(how % 14, bytes, how % 2 === 0)
  else if (circuit.grant?.status === 'OK' && victim !== undefined) {
    machine.neighbours.add(`${victim.peerId} ${target.peerId}`).add(`${target.peerId} ${victim.peerId}`)
    const hop = machine.swarm.target(target, 'relay')
    const body = encodeExtend({ target: hop, create: rawCreate(target, relayMessage).create })
    circuit.send(OP.extend, body, true)
  }
}

function strangerOf(machine: Machine) {
  const known = strangers.get(machine)
  if (known !== undefined) return known
  const made = machine.swarm.network.node(HOSTILE)
  strangers.set(machine, made)
  return made
}
const strangers = new WeakMap<Machine, ReturnType<Swarm['network']['node']>>()

/** What may happen; runs of these are what fast-check makes and makes shorter. */
export function machineCommands() {
  const hop = fc.nat(N_HOPS - 1)
  const ring = fc.nat(5)
  const steps = fc.array(fc.record({ node: hop, computes: fc.boolean() }), { minLength: 1, maxLength: 4 })
  const open = fc.tuple(fc.nat(N_ENTRIES - 1), steps).map((args) => openCommand(...args))
  const forward = fc.tuple(ring, fc.integer({ min: 1, max: 40 }), fc.nat(3)).map((args) => forwardCommand(...args))
  const mischiefs = fc.constantFrom('flip', 'drop', 'twice', 'swap', 'reflect', 'replay', 'garbage')
  return fc.commands(
    [
      open,
      open,
      forward,
      forward,
      forward,
      ring.map(closeCommand),
      fc.constantFrom(1, 300, 1_000, 5_000, 20_000, 700_000).map(advanceCommand),
      fc.tuple(hop, fc.constantFrom('kill' as const, 'mute' as const)).map((args) => goneCommand(...args)),
      hop.map(gateCommand),
      fc.tuple(fc.nat(6), fc.nat(6)).map((args) => blockCommand(...args)),
      fc.tuple(mischiefs, fc.nat(12)).map((args) => mischiefCommand(...args)),
      fc.tuple(hop, fc.integer({ min: 1, max: 2 })).map((args) => lieCommand(...args)),
      fc.tuple(hop, fc.nat(11)).map((args) => refuseCommand(...args)),
      fc.tuple(hop, fc.nat(1)).map((args) => strangerCommand(...args)),
      fc.tuple(ring, fc.nat(41), fc.uint8Array({ maxLength: 300 })).map((args) => abuseCommand(...args)),
    ],
    { maxCommands: 16 },
  )
}

function checkAlways(machine: Machine): void {
  const { broken, nodes, neighbours } = machine
  if (broken.length > 0) throw new Error(broken.join('; '))
  const sealed = new Set<string>()
  for (const node of nodes) {
    for (const use of node.sealed) {
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
  // Nobody says goodbye to a node that is cut off: there the longest life has to end.
  await swarm.clock.advance(4_000_000)
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
  await swarm.clock.advance(4_000_000)
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
