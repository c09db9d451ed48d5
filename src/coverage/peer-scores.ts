import type { Clock } from '../base/clock.ts'
import { coverageLimits } from '../base/limits.ts'
import { createRecentMap } from '../base/recent-map.ts'

/**
 * What this node has seen of each peer itself, as a number from 0 to 1. What others tell of a peer never goes in: praise and
 * blame would be free for a liar. A name is an address or a PeerId, as whoever saw it knows the peer.
 *
 *   score = (worked + 1) / (worked + failed + 2) × 2^−broken
 *
 * The first factor is the chance that it works the next time (Laplace: one half where nothing is known). A broken rule is no
 * bad luck: each halves the score, and no good work buys it off. All three fade with coverageLimits.scoreHalfLifeMs.
 * It is for people to see; routes follow exclusions (src/pipeline), which know pairs and act within seconds.
 */
export interface PeerScores {
  /** It did what it was asked for. */
  worked(name: string): void
  /** It did not. `share`: of the blame, where it is one of several who may be at fault. */
  failed(name: string, share?: number): void
  /** It did what no honest program does: a forged record, a proven lie, rules broken again and again. */
  broke(name: string): void
  /** Of a peer under all its names; null: nothing was seen of it lately. */
  of(names: readonly string[]): number | null
}

interface Seen {
  readonly worked: number
  readonly failed: number
  readonly broken: number
  readonly atMs: number
}

const NOTHING = { worked: 0, failed: 0, broken: 0 }
/** Less than this is nothing: one observation after 4.3 half-lives. */
const FAINT = 0.05

export function createPeerScores(clock: Clock): PeerScores {
  const peers = createRecentMap<Seen>(coverageLimits.scoredPeers)
  const now = (name: string): Seen => {
    const atMs = clock.monotonicMs()
    const seen = peers.get(name) ?? { ...NOTHING, atMs }
    const left = 0.5 ** ((atMs - seen.atMs) / coverageLimits.scoreHalfLifeMs)
    return { worked: seen.worked * left, failed: seen.failed * left, broken: seen.broken * left, atMs }
  }
  const add = (name: string, { worked = 0, failed = 0, broken = 0 }): void => {
    const seen = now(name)
    const [good, bad] = [seen.worked + worked, seen.failed + failed]
    // The weight of the past is bounded: who has worked a thousand times and then stops is soon seen to have stopped.
    const kept = Math.min(1, coverageLimits.scoreWeight / (good + bad))
    peers.set(name, { ...seen, worked: good * kept, failed: bad * kept, broken: seen.broken + broken })
  }
  return {
    worked: (name) => add(name, { worked: 1 }),
    failed: (name, share = 1) => add(name, { failed: share }),
    broke: (name) => add(name, { broken: 1 }),
    of(names) {
      const all = names.map(now)
      const sum = (of: keyof typeof NOTHING) => all.reduce((total, seen) => total + seen[of], 0)
      const [worked, failed, broken] = [sum('worked'), sum('failed'), sum('broken')]
      if (worked + failed + broken < FAINT) return null
      return ((worked + 1) / (worked + failed + 2)) * 0.5 ** broken
    },
  }
}
