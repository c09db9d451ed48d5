import { LlmNodeError } from '../base/errors.ts'
import type { LayerHolder } from './map.ts'
import { findRoute, type Route, type RouteRequest } from './route.ts'

/** Who may see what (docs/protocol.md): what a user asks for, and what is in force once a path is chosen. */
export type AskedProfile = 'auto' | 'direct' | 'guarded' | 'trusted' | 'local-only'
export type Profile = Exclude<AskedProfile, 'auto'>

/** What tells whose a peer is, as far as its contact record is known. */
export interface PeerPlace {
  /** `.llm` address. */
  readonly address: string
  /** Addresses that it names as its owner's other nodes. */
  readonly family: readonly string[]
  /** Its public networks, /16 of IPv4 and /32 of IPv6, as text; none on a local network. */
  readonly networks: readonly string[]
}

export interface PathRequest extends RouteRequest {
  /** Relays that may stand at the ends, most wanted first. */
  readonly guards: readonly PeerPlace[]
  placeOf(address: string): PeerPlace
  /** The user allows hops of one family or network. One identity never stands twice. */
  readonly mayShare: boolean
}

export interface GuardedPath {
  readonly route: Route
  /** Before the first and after the last compute hop. Both see this node, so both are guards. */
  readonly front: string
  readonly back: string
}

/** Two hops that may be one person's: the same identity, a family that either names, or one public network. */
export function sameHands(a: PeerPlace, b: PeerPlace, { mayShare }: { mayShare: boolean }): boolean {
  if (a.address === b.address) return true
  if (mayShare) return false
  if (a.family.includes(b.address) || b.family.includes(a.address)) return true
  return a.networks.some((network) => b.networks.includes(network))
}

/** The first pair of hops that may be one person's, as indexes. */
export function clashOf(
  path: readonly PeerPlace[],
  rules: { mayShare: boolean },
): readonly [number, number] | undefined {
  for (const [later, place] of path.entries()) {
    const earlier = path.findIndex((other, index) => index < later && sameHands(other, place, rules))
    if (earlier >= 0) return [earlier, later]
  }
  return undefined
}

/**
 * The cheapest compute route between two guards, of which nobody may be the same person as another hop. Round trips that
 * this node measured itself do not count: nothing on the way is to be dialled from here. Pure. Throws COVERAGE_GAP and
 * COVERAGE_FRAGMENTED as findRoute does, NO_RELAY when layers are there but no two relays for them.
 */
export function findGuardedRoute(holders: readonly LayerHolder[], request: PathRequest): GuardedPath {
  const unmeasured = holders.map((holder) => ({ ...holder, rttMs: null }))
  // Says what is missing before anything about relays is.
  findRoute(unmeasured, request)
  const places = new Map(unmeasured.map(({ address }) => [address, request.placeOf(address)]))
  const placeOf = (address: string) => places.get(address) ?? request.placeOf(address)
  let best: GuardedPath | undefined
  for (const [front, back] of pairsOf(request)) {
    const path = tryEnds(unmeasured, front, back, { ...request, placeOf })
    if (path === undefined || (best !== undefined && path.route.penaltyMs >= best.route.penaltyMs)) continue
    best = path
    if (path.route.penaltyMs === 0) break
  }
  if (best === undefined) throw noRelayError(request.guards.length)
  return best
}

function pairsOf(request: PathRequest): [PeerPlace, PeerPlace][] {
  const { guards } = request
  return guards.flatMap((front) =>
    guards.flatMap((back): [PeerPlace, PeerPlace][] => (sameHands(front, back, request) ? [] : [[front, back]])),
  )
}

function tryEnds(
  holders: readonly LayerHolder[],
  front: PeerPlace,
  back: PeerPlace,
  request: PathRequest,
): GuardedPath | undefined {
  const { penaltyMs, penalised, placeOf } = request
  const free = holders.filter(({ address }) => {
    const place = placeOf(address)
    return !sameHands(place, front, request) && !sameHands(place, back, request)
  })
  const between = (from: string | null, to: string | null) =>
    penaltyMs?.(from ?? front.address, to ?? back.address) ?? 0
  try {
    const route = findRoute(free, {
      ...request,
      penaltyMs: between,
      // What failed with a relay at an end concerns every hop that may stand beside it.
      penalised: penalised?.has(front.address) || penalised?.has(back.address) ? undefined : penalised,
      clash: (a, b) => sameHands(placeOf(a), placeOf(b), request),
    })
    const ends = (penaltyMs?.(null, front.address) ?? 0) + (penaltyMs?.(back.address, null) ?? 0)
    return { route: { ...route, penaltyMs: route.penaltyMs + ends }, front: front.address, back: back.address }
  } catch (error) {
    if (error instanceof LlmNodeError) return undefined
    throw error
  }
}

function noRelayError(guards: number): LlmNodeError {
  const why =
    guards < 2
      ? `it needs two relays, and ${guards === 1 ? 'one is' : 'none is'} known`
      : 'the relays known belong to those who compute, or to one person'
  return new LlmNodeError('NO_RELAY', `No guarded way to the model: ${why}.`, {
    hint: 'Wait for other nodes, start two that hold none of these layers, or accept less: --profile direct.',
    meta: { guards },
  })
}
