import fc from 'fast-check'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { COMMAND, encodeControl } from '../../../src/onion/frames.ts'
import { encodeExtend, OP } from '../../../src/onion/ops.ts'
import type { HopTarget, Ring, RingResult } from '../../../src/onion/ring.ts'
import {
  checkAllGone,
  checkAlways,
  createMachine,
  expectedEcho,
  HOSTILE,
  hopNode,
  type Machine,
  N_ENTRIES,
  N_HOPS,
  type OpenRing,
} from './machine.ts'
import type { Mischief } from './machine-network.ts'
import { openRaw, type RawCircuit, rawCreate, relayMessage } from './raw-client.ts'
import { createFakeLayers, rowsFrom, type Swarm, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

/** One hop of a ring that a command opens: which node, and whether it computes. */
interface Step {
  readonly node: number
  readonly computes: boolean
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

/** Targets for steps that are not in `taken` yet; the layers go on from `start`. */
function targetsOf(machine: Machine, steps: readonly Step[], taken: Set<SwarmNode>, start: number): HopTarget[] {
  let at = start
  return steps.flatMap(({ node, computes }): HopTarget[] => {
    const hop = hopNode(machine, node)
    if (taken.has(hop)) return []
    taken.add(hop)
    if (!computes) return [machine.swarm.target(hop, 'relay')]
    at += 2
    return [machine.swarm.target(hop, 'compute', { start: at - 2, end: at })]
  })
}

function noteNeighbours(machine: Machine, entry: SwarmNode, hops: readonly HopTarget[]): void {
  const route = [entry.peerId, ...hops.map(({ peerId }) => peerId), entry.peerId]
  for (const [i, peerId] of route.entries()) {
    const next = route[i + 1]
    if (next !== undefined) machine.neighbours.add(`${peerId} ${next}`).add(`${next} ${peerId}`)
  }
}

const openCommand = (entryIndex: number, steps: readonly Step[], how: 'open' | 'prepare', mendable: boolean): Command =>
  command(`${how}(${entryIndex}, ${nameOf(steps)}${mendable ? ', mendable' : ''})`, (machine) => {
    const entry = machine.nodes[entryIndex % N_ENTRIES]
    const hops = targetsOf(machine, steps, new Set(), 0)
    const end = Math.max(0, ...hops.map(({ span }) => span?.end ?? 0))
    if (entry === undefined || end === 0) return
    noteNeighbours(machine, entry, hops)
    const options = { ...machine.swarm.options('c'), hops, mendable }
    if (how === 'prepare') {
      entry.service.prepareRing(options)
      return
    }
    const layers = createFakeLayers({ start: 0, end })
    const open: OpenRing = { entry, hops, layers, ring: undefined, pos: 0, closed: false, broken: false }
    machine.rings.push(open)
    const built = entry.service.openRing(options, { signal: new AbortController().signal })
    machine.pending.push(
      expectOwnError(
        machine,
        built.then((ring) => hold(open, ring)),
      ),
    )
  })

function hold(open: OpenRing, ring: Ring): void {
  open.ring = ring
  open.broken = false
  void ring.ended.then((error) => {
    open.broken = error !== undefined && open.ring === ring
  })
  if (open.closed) void ring.close()
}

/** The front of a broken ring stays, other hops come behind it. */
const mendCommand = (which: number, keep: number, steps: readonly Step[]): Command =>
  command(`mend(${which}, ${keep}, ${nameOf(steps)})`, (machine) => {
    const open = machine.rings[which % Math.max(1, machine.rings.length)]
    const last = open?.hops.findLastIndex(({ role }, index) => index < keep && role === 'compute') ?? -1
    if (open?.ring === undefined || open.closed || !open.broken || last < 0) return
    const kept = open.hops.slice(0, last + 1)
    const wasTail = !open.hops.slice(last + 1).some(({ role }) => role === 'compute')
    // The last that computes stays the last, or another comes behind it: hops are not told anew.
    const rest = steps.map((step, i) => ({ ...step, computes: !wasTail && (step.computes || i === 0) }))
    const taken = new Set(machine.nodes.filter(({ peerId }) => kept.some((hop) => hop.peerId === peerId)))
    const fresh = targetsOf(machine, rest, taken, kept.at(-1)?.span?.end ?? 0)
    const hops = [...kept, ...fresh]
    noteNeighbours(machine, open.entry, hops)
    const end = Math.max(...hops.map(({ span }) => span?.end ?? 0))
    const mended = open.ring.mend({ keep: kept.length, hops: fresh }, { signal: new AbortController().signal })
    const taking = mended.then((ring) => {
      Object.assign(open, { hops, layers: createFakeLayers({ start: 0, end }), pos: 0 })
      hold(open, ring)
    })
    machine.pending.push(expectOwnError(machine, taking))
  })

/** Somebody else generates: one request over relays and a node that answers. */
const answerCommand = (entryIndex: number, steps: readonly Step[], request: Uint8Array): Command =>
  command(`answer(${entryIndex}, ${nameOf(steps)}, ${request.length} bytes)`, (machine) => {
    const entry = machine.nodes[entryIndex % N_ENTRIES]
    const at = Math.max(
      0,
      steps.findIndex(({ computes }) => computes),
    )
    const hops = targetsOf(machine, steps, new Set(), 0).map(({ span: _, ...hop }, index): HopTarget => {
      return { ...hop, role: index === at ? 'answer' : 'relay' }
    })
    if (entry === undefined || !hops.some(({ role }) => role === 'answer')) return
    noteNeighbours(machine, entry, hops)
    const asked = async () => {
      const circuit = await entry.service.openAnswer(hops, { signal: new AbortController().signal })
      const pieces: Uint8Array[] = []
      for await (const piece of circuit.ask(request)) pieces.push(piece)
      const got = Buffer.concat(pieces)
      const { beginning, length } = expectedEcho(request)
      const isRight = got.length === length && Buffer.compare(got.subarray(0, beginning.length), beginning) === 0
      if (!isRight && !hasLiar(machine, hops)) machine.broken.push(`a wrong answer of ${got.length} bytes came out`)
    }
    machine.pending.push(expectOwnError(machine, asked()))
  })

const nameOf = (steps: readonly Step[]) => steps.map(({ node, computes }) => `${computes ? 'c' : 'r'}${node}`).join(' ')

/** Who computes or answers can lie and nobody on the circuit sees it; a relay can change nothing unseen. */
function hasLiar({ nodes, liars }: Machine, hops: readonly HopTarget[]): boolean {
  const told = hops.filter(({ role }) => role !== 'relay').map(({ peerId }) => peerId)
  return nodes.some((node, index) => liars.has(index) && told.includes(node.peerId))
}

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
      if (hasLiar(machine, open.hops)) return
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

/** The connection behind hop `at` of a ring breaks. */
const cutCommand = (which: number, at: number): Command =>
  command(`cut(${which}, ${at})`, (machine) => {
    const open = machine.rings[which % Math.max(1, machine.rings.length)]
    if (open?.ring === undefined || open.closed) return
    const route = [...open.hops.map(({ peerId }) => peerId), open.entry.peerId]
    const [a, b] = route.slice(at % open.hops.length)
    if (a !== undefined && b !== undefined) machine.swarm.network.cut(a, b)
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
  command(`lie(${hop}, ${times} times)`, ({ lies, liars }) => {
    lies.set(N_ENTRIES + (hop % N_HOPS), times)
    liars.add(N_ENTRIES + (hop % N_HOPS))
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
  const how = fc.constantFrom('open' as const, 'open' as const, 'prepare' as const)
  const open = fc.tuple(fc.nat(N_ENTRIES - 1), steps, how, fc.boolean()).map((args) => openCommand(...args))
  const mend = fc.tuple(ring, fc.integer({ min: 1, max: 3 }), steps).map((args) => mendCommand(...args))
  const forward = fc.tuple(ring, fc.integer({ min: 1, max: 40 }), fc.nat(3)).map((args) => forwardCommand(...args))
  const answer = fc
    .tuple(fc.nat(N_ENTRIES - 1), steps, fc.uint8Array({ maxLength: 200 }))
    .map((args) => answerCommand(...args))
  const mischiefs = fc.constantFrom('flip', 'drop', 'twice', 'swap', 'reflect', 'replay', 'garbage')
  return fc.commands(
    [
      ...[open, open, open],
      ...[forward, forward, forward, forward, forward],
      ...[mend, mend, mend],
      ...[answer, answer],
      ring.map(closeCommand),
      fc.tuple(ring, fc.nat(3)).map((args) => cutCommand(...args)),
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
    { maxCommands: 28, size: 'max' },
  )
}

/** One run: two rings stand, then `commands` happen, then everything must be gone again. */
export async function runMachine(commands: Iterable<Command>, seed: number): Promise<void> {
  const machine = createMachine(seed)
  const steps = [0, 1, 2, 3].map((node) => ({ node, computes: node > 0 || seed % 2 === 0 }))
  await openCommand(0, steps, 'open', true).run({}, machine)
  await openCommand(1, [...steps].reverse().slice(0, 2 + (seed % 3)), 'open', seed % 5 > 0).run({}, machine)
  await fc.asyncModelRun(() => ({ model: {}, real: machine }), commands)
  await checkAllGone(machine)
}
