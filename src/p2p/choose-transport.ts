import type { TransportName } from './peer-addrs.ts'

/** Round trips over one connection in ms; null: no answer in time. */
export type Samples = readonly (number | null)[]

/** What a lost round trip counts. */
const LOST_MS = 1_000
/** QUIC must be better by that much: larger frames cost more there (ADR 0004). */
const CLEARLY = 0.8

/**
 * TCP or QUIC for a link, by round trips taken over both in turn. The mean and not the median: where packets are lost, TCP
 * waits at least 200 ms for each and QUIC a few round trips, which only the mean shows. Without samples of QUIC it is TCP.
 */
export function chooseTransport(tcp: Samples, quic: Samples): TransportName {
  if (quic.length === 0 || quic.every((ms) => ms === null)) return 'tcp'
  if (tcp.length === 0) return 'quic'
  return mean(quic) < CLEARLY * mean(tcp) ? 'quic' : 'tcp'
}

function mean(samples: Samples): number {
  return samples.reduce<number>((sum, ms) => sum + (ms ?? LOST_MS), 0) / samples.length
}
