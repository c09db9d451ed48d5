import type { Clock } from '../base/clock.ts'
import type { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { PeerScores } from '../coverage/peer-scores.ts'

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
  /** A chain over these hops, in order, has answered: what failed with them before was the other side's fault. */
  worked(addresses: readonly string[]): void
  /**
   * For findRoute: ms that a link counts more. At least `AVOIDED_MS` when it is excluded, and the more, the later it has
   * failed. `lastResort`: where all that is left has failed, either end of a failed link counts as the one that is gone.
   */
  penaltyMs(from: string | null, to: string | null, lastResort?: boolean): number
  /** All that any penalty concerns now. */
  concerned(): ReadonlySet<string>
}

/** More than any route costs: an excluded link is used only when nothing else is there. */
export const AVOIDED_MS = 1e7
/** Of two excluded links the one that failed first is tried first. All links of a route together stay below AVOIDED_MS. */
const ORDER = { mostMs: 1e6, stepMs: 1_000 }
/** More than a good route costs, so that another one is tried first. */
const SUSPECT_MS = 10_000
/**
 * Either end of a failed link may be the one that is gone: to find that out costs up to 3 s, spread over the tokens of an
 * answer. Small enough that nobody steers routes by breaking his own links.
 */
const PARTNER_MS = 50

interface Entry {
  readonly sinceMs: number
  /** Which of all failures it was. */
  readonly nth: number
  readonly times: number
  untilMs: number
}

/** Peers of which is known when they last worked. */
const REMEMBERED = 1_024

/** Shared by the generations of a node: what broke one of them is not tried first by the next. `scores` hears of it all. */
export function createExclusions(clock: Clock, scores?: Pick<PeerScores, 'worked' | 'failed'>): Exclusions {
  const links = createTimes(clock)
  const peers = createTimes(clock)
  const suspects = createTimes(clock)
  const workedMs = new Map<string, number>()

  let nFailures = 0
  const excludedMs = (entries: readonly Entry[]) => {
    const nLater = nFailures - Math.max(...entries.map(({ nth }) => nth))
    return AVOIDED_MS + Math.max(0, ORDER.mostMs - ORDER.stepMs * nLater)
  }

  /** What a peer costs: it is out when it failed with two different partners since it worked, for then it is not the link. */
  const costOf = (peer: string | null, fewestPartners: number) => {
    if (peer === null) return 0
    const partners = new Map<string, Entry>()
    for (const [link, entry] of links.active()) {
      if (entry.sinceMs <= (workedMs.get(peer) ?? Number.NEGATIVE_INFINITY)) continue
      const [from = '', to = ''] = link.split('>')
      if (from === peer) partners.set(to, entry)
      if (to === peer) partners.set(from, entry)
    }
    const own = peers.get(peer)
    const failed = [...(own === undefined ? [] : [own]), ...(partners.size < fewestPartners ? [] : partners.values())]
    if (failed.length > 0) return excludedMs(failed)
    return (suspects.get(peer) === undefined ? 0 : SUSPECT_MS) + (partners.size > 0 ? PARTNER_MS : 0)
  }

  return {
    add(blame) {
      nFailures++
      const { peers: who, nSides } = suspectsOf(blame)
      for (const address of who) scores?.failed(address, 1 / nSides)
      if (blame.what === 'link') links.add(linkKey(blame.from, blame.to), nFailures)
      else if (blame.what === 'peer') peers.add(blame.address, nFailures)
      else for (const address of blame.addresses) suspects.add(address, nFailures)
    },
    worked(addresses) {
      const nowMs = clock.monotonicMs()
      for (const [index, to] of [...addresses, null].entries()) {
        links.end(linkKey(addresses[index - 1] ?? null, to))
        if (to === null) continue
        scores?.worked(to)
        peers.end(to)
        suspects.end(to)
        workedMs.delete(to)
        workedMs.set(to, nowMs)
      }
      for (const oldest of workedMs.keys()) {
        if (workedMs.size <= REMEMBERED) break
        workedMs.delete(oldest)
      }
    },
    concerned() {
      const names = [...links.active()].flatMap(([link]) => link.split('>'))
      for (const list of [peers, suspects]) for (const [name] of list.active()) names.push(name)
      return new Set(names.filter((name) => name !== ''))
    },
    penaltyMs(from, to, lastResort = false) {
      const link = links.get(linkKey(from, to))
      // A peer is counted once, where a route comes to it: otherwise one that is out weighs as much as two.
      return Math.max(link === undefined ? 0 : excludedMs([link]), costOf(to, lastResort ? 1 : 2))
    },
  }
}

/** Peers that may be at fault, this node left out; `nSides` counts it, too. */
function suspectsOf(blame: Blame): { readonly peers: readonly string[]; readonly nSides: number } {
  if (blame.what === 'peer') return { peers: [blame.address], nSides: 1 }
  if (blame.what === 'route') return { peers: blame.addresses, nSides: blame.addresses.length }
  return { peers: [blame.from, blame.to].filter((address) => address !== null), nSides: 2 }
}

function linkKey(from: string | null, to: string | null): string {
  return `${from ?? ''}>${to ?? ''}`
}

/** Names that are excluded 15 s × 2ⁿ from their n-th failure on; forgotten when they have been good for as long again. */
function createTimes(clock: Clock) {
  const entries = new Map<string, Entry>()
  const lengthMs = ({ times }: Pick<Entry, 'times'>) => pipelineLimits.excludeMs * 2 ** Math.min(times - 1, 10)
  const expire = () => {
    const nowMs = clock.monotonicMs()
    for (const [name, entry] of entries) if (nowMs > entry.untilMs + lengthMs(entry)) entries.delete(name)
  }
  const isActive = ({ untilMs }: Entry) => untilMs > clock.monotonicMs()
  return {
    add(name: string, nth: number): void {
      expire()
      const sinceMs = clock.monotonicMs()
      const times = (entries.get(name)?.times ?? 0) + 1
      entries.delete(name)
      entries.set(name, { sinceMs, nth, times, untilMs: sinceMs + lengthMs({ times }) })
      for (const oldest of entries.keys()) {
        if (entries.size <= pipelineLimits.exclusions) break
        entries.delete(oldest)
      }
    },
    /** Before its time; how often it failed is remembered. */
    end(name: string): void {
      const entry = entries.get(name)
      if (entry !== undefined) entry.untilMs = Math.min(entry.untilMs, clock.monotonicMs())
    },
    /** As long as it is excluded. */
    get(name: string): Entry | undefined {
      const entry = entries.get(name)
      return entry !== undefined && isActive(entry) ? entry : undefined
    },
    *active(): Generator<[name: string, entry: Entry]> {
      for (const each of entries) if (isActive(each[1])) yield each
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
