import type { LayerHolder } from './map.ts'

/** What a link and a hop cost where nothing has been measured. Times in ms. */
const UNKNOWN_RTT_MS = 150
/** One frame's sealing, sending and opening beyond the wire (bench/hop.ts). */
const HOP_OVERHEAD_MS = 0.5
/** A relayed link carries a fifth of a direct one (Petals PR #428): its latency counts five times. */
const RELAY_FACTOR = 5
/** A hop that may refuse for want of KV is taken only when nothing else is there. */
const SHORT_KV_MS = 10_000

/** One frame over one link in ms: half a round trip and the hop's own overhead. `rttMs` null: unknown. */
export function linkMs(rttMs: number | null, to: Pick<LayerHolder, 'relayed'>): number {
  return ((rttMs ?? UNKNOWN_RTT_MS) / 2) * (to.relayed ? RELAY_FACTOR : 1) + HOP_OVERHEAD_MS
}

/** What a hop counts more when it may have too little room for the session. */
export function shortKvMs({ freeKvTokens }: Pick<LayerHolder, 'freeKvTokens'>, maxContext: number): number {
  return freeKvTokens < maxContext ? SHORT_KV_MS : 0
}

/** Round trip between two holders, as either of them has told; null while unknown. */
export function rttBetween(from: LayerHolder, to: LayerHolder): number | null {
  return to.neighbourRttMs.get(from.address) ?? from.neighbourRttMs.get(to.address) ?? null
}
