import type { Clock } from '../base/clock.ts'
import { createRecentMap } from './rate-limit.ts'
import type { QueueMeter } from './send-queue.ts'
import type { OnionLimits } from './types.ts'

/** What a circuit is to the table: before CREATE, half-open, or by its role. `ring`: this node's own end of a ring. */
export type CircuitPhase = 'new' | 'half-open' | 'relay' | 'compute' | 'ring'

export interface TableCircuit {
  /** Predecessor's PeerId. */
  readonly peer: string
  readonly trusted: boolean
  readonly phase: CircuitPhase
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
  count(phase: CircuitPhase, peer?: string): number
  /** Counts the bytes that wait in `circuit`; beyond the caps the circuit that waits longest is destroyed. */
  meter(circuit: TableCircuit): QueueMeter
  counts(): CircuitCounts
  destroyAll(reason: string): void
}

interface Waiting {
  bytes: number
  /** Since when nothing has moved. */
  sinceMs: number
}

export function createCircuitTable(limits: OnionLimits, clock: Clock): CircuitTable {
  const circuits = new Map<TableCircuit, Waiting>()
  const goodStanding = createRecentMap<true>(limits.rememberedPeers)
  let totalBytes = 0

  const dropLongestWaiting = (peer?: string) => {
    let longest: TableCircuit | undefined
    let sinceMs = Number.POSITIVE_INFINITY
    for (const [circuit, waiting] of circuits) {
      if (waiting.bytes === 0 || (peer !== undefined && circuit.peer !== peer) || waiting.sinceMs >= sinceMs) continue
      longest = circuit
      sinceMs = waiting.sinceMs
    }
    longest?.destroy('too many bytes are waiting')
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
      circuits.set(circuit, { bytes: 0, sinceMs: 0 })
    },
    remove(circuit, clean) {
      totalBytes -= circuits.get(circuit)?.bytes ?? 0
      circuits.delete(circuit)
      if (clean) goodStanding.set(circuit.peer, true)
    },
    inGoodStanding: (peer) => goodStanding.has(peer),
    count,
    meter: (circuit) => ({
      add(bytes) {
        const waiting = circuits.get(circuit)
        if (waiting === undefined) return
        if (waiting.bytes === 0) waiting.sinceMs = clock.monotonicMs()
        waiting.bytes += bytes
        totalBytes += bytes
        if (totalBytes > limits.queueTotalBytes) dropLongestWaiting()
        else if (
          !circuit.trusted &&
          totalBytes > limits.queuePeerBytes &&
          peerBytes(circuit.peer) > limits.queuePeerBytes
        ) {
          dropLongestWaiting(circuit.peer)
        }
      },
      remove(bytes) {
        const waiting = circuits.get(circuit)
        if (waiting === undefined) return
        waiting.bytes -= bytes
        waiting.sinceMs = clock.monotonicMs()
        totalBytes -= bytes
      },
    }),
    counts() {
      const phases = ['new', 'half-open', 'relay', 'compute', 'ring'] as const
      const entries = phases.map((phase) => [phase, count(phase)] as const)
      return { circuits: Object.fromEntries(entries) as Record<CircuitPhase, number>, queuedBytes: totalBytes }
    },
    destroyAll(reason) {
      for (const circuit of [...circuits.keys()]) circuit.destroy(reason)
    },
  }
}
