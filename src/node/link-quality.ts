import type { PeerBody } from '../api/types.ts'

/** Round trips in ms up to which a link is good or fair: a hop adds half of one to every token. */
const GOOD_MS = 50
const FAIR_MS = 150

/** Null: not connected, or not measured yet. A relay carries a fraction of a direct link (swarm.md §5): never good. */
export function linkQuality(link: { rttMs: number | null; relayed: boolean }): PeerBody['quality'] {
  if (link.rttMs === null) return null
  if (link.rttMs <= GOOD_MS) return link.relayed ? 'fair' : 'good'
  return link.rttMs <= FAIR_MS && !link.relayed ? 'fair' : 'poor'
}
