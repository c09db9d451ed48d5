import { onionLimits } from '../base/limits.ts'
import type { OnionLimits } from './types.ts'

/** What the owner of a node gives to others' circuits; the bursts grow with the rates. */
export function relayingLimits({
  relayCircuits,
  relayMBps,
}: {
  relayCircuits: number
  relayMBps: number
}): Partial<OnionLimits> {
  const { relayBytesPerS, relayBurstBytes, relayTotal } = onionLimits
  const factor = (relayMBps * 1e6) / relayBytesPerS
  return {
    relayCircuits,
    relayBytesPerS: relayBytesPerS * factor,
    relayBurstBytes: Math.max(1_048_576, relayBurstBytes * factor),
    relayTotal: { perS: relayTotal.perS * factor, burst: Math.max(4 * 1_048_576, relayTotal.burst * factor) },
  }
}
