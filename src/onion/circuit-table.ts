import type { Clock } from '../base/clock.ts'
import { createRecentMap } from '../base/recent-map.ts'
import type { QueueMeter } from './send-queue.ts'
import type { OnionLimits } from './types.ts'

/** What a circuit is to the table: before CREATE, half-open, or by its role. `ring`: this node's own end of a ring. */
export type CircuitPhase = 'new' | 'half-open' | 'relay' | 'compute' | 'answer' | 'ring'

export interface TableCircuit {
  /** Predecessor's PeerId. */
  readonly peer: string
  readonly trusted: boolean
  readonly phase: CircuitPhase
  /** Since its last frame. */
  readonly quietMs: number
  destroy(reason: string): void
}

export interface CircuitCounts {
  readonly circuits: Readonly<Record<CircuitPhase, number>>
  readonly queuedBytes: number
}

/** All circuits that end or pass here, and what they hold together. */
export interface CircuitTable {
  add(circuit: TableCircuit): void
  /** `clean`: it was set up and closed by its predecessor without any violation; that earns good standing. */
  remove(circuit: TableCircuit, clean: boolean): void
  inGoodStanding(peer: string): boolean
  /** A circuit from this peer is set up. */
  isUseful(peer: string): boolean
  count(phase: CircuitPhase, peer?: string): number
  /** Of a phase, those on which a frame came within `quietMs`. */
  inUse(phase: CircuitPhase, quietMs: number): number
  /** Counts the bytes that wait in `circuit`; beyond the caps the circuit with the oldest byte is destroyed. */
  meter(circuit: TableCircuit): QueueMeter
  counts(): CircuitCounts
  destroyAll(reason: string): void
}

const BEGINNING: ReadonlySet<CircuitPhase> = new Set(['new', 'half-open'])

/** Bytes that wait, in the order in which they came: what leaves first has come first. */
interface Waiting {
  bytes: number
  readonly arrivals: { readonly atMs: number; bytes: number }[]
}

export function createCircuitTable(limits: OnionLimits, clock: Clock): CircuitTable {
  const circuits = new Map<TableCircuit, Waiting>()
  const goodStanding = createRecentMap<true>(limits.rememberedPeers)
  let totalBytes = 0

  /** Whoever holds the oldest byte, as Tor does: a reader that takes a little now and then is no better than none. */
  const dropOldest = (peer?: string) => {
    let oldest: TableCircuit | undefined
    let sinceMs = Number.POSITIVE_INFINITY
    for (const [circuit, { arrivals }] of circuits) {
      const atMs = arrivals[0]?.atMs ?? Number.POSITIVE_INFINITY
      if ((peer !== undefined && circuit.peer !== peer) || atMs >= sinceMs) continue
      oldest = circuit
      sinceMs = atMs
    }
    oldest?.destroy('too many bytes are waiting')
  }
  const peerBytes = (peer: string) => {
    let bytes = 0
    for (const [circuit, waiting] of circuits) if (circuit.peer === peer) bytes += waiting.bytes
    return bytes
  }
  const count = (phase: CircuitPhase, peer?: string) => {
    let found = 0
    for (const circuit of circuits.keys()) {
      if (circuit.phase === phase && (peer === undefined || circuit.peer === peer)) found++
    }
    return found
  }

  return {
    add(circuit) {
      circuits.set(circuit, { bytes: 0, arrivals: [] })
    },
    remove(circuit, clean) {
      totalBytes -= circuits.get(circuit)?.bytes ?? 0
      circuits.delete(circuit)
      if (clean) goodStanding.set(circuit.peer, true)
    },
    inGoodStanding: (peer) => goodStanding.has(peer),
    isUseful: (peer) => [...circuits.keys()].some((circuit) => circuit.peer === peer && !BEGINNING.has(circuit.phase)),
    count,
    inUse: (phase, quietMs) =>
      [...circuits.keys()].filter((circuit) => circuit.phase === phase && circuit.quietMs < quietMs).length,
    meter: (circuit) => ({
      add(bytes) {
        const waiting = circuits.get(circuit)
        if (waiting === undefined) return
        arrive(waiting, bytes, clock.monotonicMs())
        totalBytes += bytes
        // The sum first: it is at hand, and rarely that large.
        const mayBeTooMany = !circuit.trusted && totalBytes > limits.queuePeerBytes
        if (totalBytes > limits.queueTotalBytes) dropOldest()
        else if (mayBeTooMany && peerBytes(circuit.peer) > limits.queuePeerBytes) dropOldest(circuit.peer)
      },
      remove(bytes) {
        const waiting = circuits.get(circuit)
        if (waiting === undefined) return
        leave(waiting, bytes)
        totalBytes -= bytes
      },
    }),
    counts() {
      const phases = ['new', 'half-open', 'relay', 'compute', 'answer', 'ring'] as const
      const entries = phases.map((phase) => [phase, count(phase)] as const)
      return { circuits: Object.fromEntries(entries) as Record<CircuitPhase, number>, queuedBytes: totalBytes }
    },
    destroyAll(reason) {
      for (const circuit of [...circuits.keys()]) circuit.destroy(reason)
    },
  }
}

function arrive(waiting: Waiting, bytes: number, atMs: number): void {
  const last = waiting.arrivals.at(-1)
  if (last?.atMs === atMs) last.bytes += bytes
  else waiting.arrivals.push({ atMs, bytes })
  waiting.bytes += bytes
}

function leave(waiting: Waiting, bytes: number): void {
  waiting.bytes -= bytes
  let left = bytes
  for (let first = waiting.arrivals[0]; first !== undefined && left > 0; first = waiting.arrivals[0]) {
    const taken = Math.min(left, first.bytes)
    first.bytes -= taken
    left -= taken
    if (first.bytes === 0) waiting.arrivals.shift()
  }
}
