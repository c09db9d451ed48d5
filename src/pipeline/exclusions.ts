import type { Clock } from '../base/clock.ts'
import type { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'

/** What a failure is put down to, by `.llm` address; null: this node. */
export type Blame =
  /** The last hop that answers and the next one (protocol.md §6): it can be either, or what lies between. */
  | { readonly what: 'link'; readonly from: string | null; readonly to: string | null }
  /** It said no itself, or cannot be looked up. */
  | { readonly what: 'peer'; readonly address: string }
  /** All hops answer and no result comes: one of them, but nobody knows which. */
  | { readonly what: 'route'; readonly addresses: readonly string[] }

/** What is better left out of the next routes, for a time that grows with each failure. */
export interface Exclusions {
  add(blame: Blame): void
  /** For findRoute: ms that a link counts more. At least `AVOIDED_MS` when it is excluded. */
  penaltyMs(from: string | null, to: string | null): number
}

/** More than any route costs: an excluded link is used only when nothing else is there. */
export const AVOIDED_MS = 1e7
/** More than a good route costs, so that another one is tried first. */
const SUSPECT_MS = 10_000

interface Entry {
  untilMs: number
  times: number
}

/** Shared by the generations of a node: what broke one of them is not tried first by the next. */
export function createExclusions(clock: Clock): Exclusions {
  const links = createTimes(clock)
  const peers = createTimes(clock)
  const suspects = createTimes(clock)

  /** A peer is out when it failed with two different partners: then it is not the link. */
  const isOut = (peer: string | null) => {
    if (peer === null) return false
    if (peers.has(peer)) return true
    const partners = new Set<string>()
    for (const link of links.keys()) {
      const [from = '', to = ''] = link.split('>')
      if (from === peer) partners.add(to)
      if (to === peer) partners.add(from)
    }
    return partners.size > 1
  }

  return {
    add(blame) {
      if (blame.what === 'link') links.add(linkKey(blame.from, blame.to))
      else if (blame.what === 'peer') peers.add(blame.address)
      else for (const address of blame.addresses) suspects.add(address)
    },
    penaltyMs(from, to) {
      if (links.has(linkKey(from, to)) || isOut(from) || isOut(to)) return AVOIDED_MS
      return to !== null && suspects.has(to) ? SUSPECT_MS : 0
    },
  }
}

function linkKey(from: string | null, to: string | null): string {
  return `${from ?? ''}>${to ?? ''}`
}

/** Names that are excluded 15 s × 2ⁿ from their n-th failure on; forgotten when they have been good for as long again. */
function createTimes(clock: Clock) {
  const entries = new Map<string, Entry>()
  const lengthMs = ({ times }: Entry) => pipelineLimits.excludeMs * 2 ** Math.min(times - 1, 10)
  const expire = () => {
    const nowMs = clock.monotonicMs()
    for (const [name, entry] of entries) if (nowMs > entry.untilMs + lengthMs(entry)) entries.delete(name)
  }
  const isActive = (entry: Entry | undefined) => entry !== undefined && clock.monotonicMs() < entry.untilMs
  return {
    add(name: string): void {
      expire()
      const entry = entries.get(name) ?? { untilMs: 0, times: 0 }
      entry.times++
      entry.untilMs = clock.monotonicMs() + lengthMs(entry)
      entries.delete(name)
      entries.set(name, entry)
      for (const oldest of entries.keys()) {
        if (entries.size <= pipelineLimits.exclusions) break
        entries.delete(oldest)
      }
    },
    has: (name: string): boolean => isActive(entries.get(name)),
    *keys(): Generator<string> {
      for (const [name, entry] of entries) if (isActive(entry)) yield name
    },
  }
}

/** Reads the error's facts (onion/ring-errors.ts). `addresses`: the hops of the ring that failed, in order. */
export function blameOf({ code, meta }: LlmNodeError, addresses: readonly string[]): Blame {
  const { hop, pair, status, address } = meta
  if (typeof address === 'string') return { what: 'peer', address }
  const refuser = typeof hop === 'number' ? addresses[hop] : undefined
  // BAD_INPUT is what it got, so that the hop before may be at fault.
  if (code === 'PEER_REFUSED' && refuser !== undefined && status !== 'BAD_INPUT') {
    return { what: 'peer', address: refuser }
  }
  if (!Array.isArray(pair)) return { what: 'route', addresses }
  const [from, to] = pair.map((index) => addresses[Number(index)] ?? null)
  return { what: 'link', from: from ?? null, to: to ?? null }
}
