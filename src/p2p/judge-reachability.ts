import { reachabilityLimits } from '../base/limits-reach.ts'

/**
 * How others reach a node. `public`: at an address of its own. `mapped`: its router forwards a port. `relayed`: through
 * a relay. `unreachable`: from its own network only. `unknown`: not found out yet.
 */
export type ReachabilityWord = 'unknown' | 'unreachable' | 'public' | 'mapped' | 'relayed'

export interface Reachability {
  readonly word: ReachabilityWord
  /** False: something should be done. */
  readonly ok: boolean
  /** Why, as a sentence. */
  readonly reason: string
  /** What would make it better; null: nothing. */
  readonly next: string | null
}

export interface ReachabilityFacts {
  /** Addresses at which somebody outside has dialled this node, or for which its owner vouches. */
  readonly proven: readonly { readonly addr: string; readonly mapped: boolean }[]
  /** Public addresses of this machine that nobody has dialled yet. */
  readonly unproven: readonly string[]
  /** Relays with a public address that hold a place for this node. */
  readonly relays: number
  /** Ms since the start. */
  readonly ageMs: number
  /** Ms since the first peer outside that can dial back; null: there was none. */
  readonly outsideMs: number | null
  /** The port to forward; null: unknown. */
  readonly port: number | null
}

/** Pure. */
export function judgeReachability(facts: ReachabilityFacts): Reachability {
  const { proven, unproven, relays, port } = facts
  const own = proven.find(({ mapped }) => !mapped)
  if (own !== undefined) return { word: 'public', ok: true, reason: `Others dial it at ${own.addr}.`, next: null }
  const [mapped] = proven
  if (mapped !== undefined) {
    return { word: 'mapped', ok: true, reason: `The router forwards ${mapped.addr} to this machine.`, next: null }
  }
  const why = unproven[0] === undefined ? 'It has no public address' : `Nobody outside could dial ${unproven[0]}`
  const forward = `forward TCP and UDP port ${port ?? 5561} to this machine in the router or firewall`
  if (relays > 0) {
    const through = relays === 1 ? 'a relay' : `${relays} relays`
    return {
      word: 'relayed',
      ok: true,
      reason: `${why}; others come in through ${through}.`,
      next: `For direct links, ${forward}.`,
    }
  }
  if (facts.outsideMs === null) {
    if (facts.ageMs < reachabilityLimits.aloneMs) return findingOut
    return {
      word: 'unreachable',
      ok: true,
      reason: 'Nobody outside the local network is connected; nodes on it can reach this one.',
      next: 'To be found from elsewhere, meet others there: llm-node bootstrap add ADDRESS',
    }
  }
  if (facts.outsideMs < reachabilityLimits.provenMs) return findingOut
  return {
    word: 'unreachable',
    ok: false,
    reason: `${why}, and no relay has a place for this node.`,
    next: `Use a bootstrap node, which relays, or ${forward}.`,
  }
}

const findingOut: Reachability = {
  word: 'unknown',
  ok: true,
  reason: 'Finding out how others reach this node.',
  next: null,
}
