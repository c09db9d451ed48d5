import { isLlmNodeError } from '../base/errors.ts'
import { formatSpan } from '../base/span.ts'
import type { LayerHolder } from './map.ts'
import { findRoute, type Route } from './route.ts'
import { rttBetween } from './route-costs.ts'

/** Whether a peer's best route leads through this node, and why (not). For people. */
export interface Usage {
  /** Whose route. */
  readonly address: string
  readonly used: boolean
  readonly reason: string
}

export interface UsageRequest {
  /** This node's address. */
  readonly self: string
  /** Everybody who could ask, this node left out, with what each knows of round trips to the holders. */
  readonly askers: readonly { readonly address: string; rttTo(holder: LayerHolder): number | null }[]
  /** Everybody who serves layers of the model, this node included. */
  readonly holders: readonly LayerHolder[]
  readonly nLayers: number
  readonly maxHops: number
}

/**
 * "Why am I not used?", answered peer by peer: the route that each would choose with what adverts say, and what it would
 * cost to lead it through this node. Pure.
 */
export function explainUsage(request: UsageRequest): Usage[] {
  const { self, askers, holders } = request
  const own = holders.find(({ address }) => address === self)
  return askers.map(({ address, rttTo }) => {
    if (own === undefined) return { address, used: false, reason: 'this node serves no layers of this model' }
    if (own.state !== 'online') {
      return {
        address,
        used: false,
        reason: own.state === 'draining' ? 'this node serves nobody now' : 'this node is still joining',
      }
    }
    const seen = holders.map((holder) => ({ ...holder, rttMs: rttTo(holder) }))
    return { address, ...explain(own, seen, request) }
  })
}

function explain(own: LayerHolder, seen: readonly LayerHolder[], request: UsageRequest): Omit<Usage, 'address'> {
  const best = tryRoute(seen, request)
  if (typeof best === 'string') return { used: false, reason: best }
  if (leadsThrough(best, own)) return { used: true, reason: 'on its best route' }
  const classes = new Set(best.hops.map(({ holder }) => holder.numericsClass))
  if (classes.size === 1 && !classes.has(own.numericsClass)) {
    return { used: false, reason: 'this processor computes other bits than the rest: exact routes leave it out' }
  }
  const overlaps = ({ span }: LayerHolder) => span.start < own.span.end && own.span.start < span.end
  const rivals = seen.filter((holder) => holder.address !== own.address && overlaps(holder))
  const without = tryRoute(
    seen.filter((holder) => !rivals.includes(holder) || !covers(holder, own)),
    request,
  )
  if (typeof without === 'string' || !leadsThrough(without, own)) {
    return { used: false, reason: `a route through layers ${formatSpan(own.span)} here would be longer` }
  }
  const moreMs = without.decodeMs - best.decodeMs
  const kv = own.freeKvTokens === 0 ? ', and it has no room for another session' : ''
  return {
    used: false,
    reason: `others hold these layers too and are faster: ${best.decodeMs.toFixed(1)} ms a token, ${moreMs.toFixed(1)} ms more through this node${kv}`,
  }
}

function covers(holder: LayerHolder, own: LayerHolder): boolean {
  return holder.span.start <= own.span.start && holder.span.end >= own.span.end
}

function leadsThrough(route: Route, own: LayerHolder): boolean {
  return route.hops.some(({ holder }) => holder.address === own.address)
}

function tryRoute(holders: readonly LayerHolder[], { nLayers, maxHops }: UsageRequest): Route | string {
  try {
    return findRoute(holders, { span: { start: 0, end: nLayers }, maxContext: 1, maxHops, modelName: 'the model' })
  } catch (error) {
    if (isLlmNodeError(error)) return error.message
    throw error
  }
}

/** What is known of the way from one holder to another; a peer that holds nothing has told nothing. */
export function rttFrom(asker: LayerHolder | undefined): (holder: LayerHolder) => number | null {
  return (holder) => (asker === undefined ? null : asker.address === holder.address ? 0 : rttBetween(asker, holder))
}
