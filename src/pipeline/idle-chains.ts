import { type Clock, systemClock } from '../base/clock.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { HeldChain } from './held-chain.ts'
import { commonLength } from './session.ts'

export interface WantedChain {
  /** Model, recipe, profile and who asks: a chain never serves another one of them. */
  readonly owner: string
  readonly promptIds: readonly number[]
  /** So many ids from the start, the first user turn's, must be the same: it is the same chat. */
  readonly sameIds: number
  readonly maxContext: number
  readonly longRope: boolean
}

/** Chains of chats that may go on, with the KV of all that was said (engine.md §7). */
export interface IdleChains {
  /** The one that holds most of the prompt; it is the caller's then. */
  take(wanted: WantedChain): HeldChain | undefined
  /** Keeps a chain, closing others that are too many, and this one after a time. */
  put(owner: string, held: HeldChain): void
  /** Closes those over hops that are about to leave. */
  leave(addresses: ReadonlySet<string>): void
  /** Closes all: their room is needed, or the node stops. */
  clear(): Promise<void>
  readonly size: number
}

interface Idle extends HeldChain {
  readonly owner: string
  readonly timer: NodeJS.Timeout
}

export function createIdleChains(deps: { clock?: Clock } = {}): IdleChains {
  const { clock = systemClock } = deps
  /** In the order of use, the latest last. */
  const idle = new Set<Idle>()

  const remove = (each: Idle) => {
    clearTimeout(each.timer)
    return idle.delete(each)
  }
  const drop = async (each: Idle) => {
    if (remove(each)) await each.opened.chain.close()
  }
  const isOld = ({ opened, openedMs }: HeldChain) =>
    clock.monotonicMs() - openedMs > opened.chain.lifeS * 1_000 * pipelineLimits.lifeShare

  return {
    take({ owner, promptIds, sameIds, maxContext, longRope }) {
      let best: Idle | undefined
      let longest = 0
      for (const each of idle) {
        const length = commonLength(each.ids, promptIds)
        if (each.owner !== owner || length < Math.max(1, sameIds)) continue
        const { chain, plan } = each.opened
        if (chain.maxContext < maxContext || plan.longRope !== longRope || isOld(each)) {
          // It has become too small for its chat, or will end within the answer.
          void drop(each)
        } else if (length > longest) {
          best = each
          longest = length
        }
      }
      if (best === undefined) return undefined
      remove(best)
      const { opened, ids, openedMs } = best
      return { opened, ids, openedMs }
    },
    put(owner, held) {
      const timer = setTimeout(() => void drop(each), pipelineLimits.idleChainMs)
      timer.unref()
      const each: Idle = { ...held, owner, timer }
      idle.add(each)
      // Its circuit has ended; layers that are held here keep their memory until they are told.
      void held.opened.chain.ended.then(() => drop(each))
      let tokens = 0
      for (const { opened } of idle) tokens += opened.chain.maxContext
      for (const oldest of idle) {
        if (idle.size <= pipelineLimits.idleChains && tokens <= pipelineLimits.idleTokens) break
        tokens -= oldest.opened.chain.maxContext
        void drop(oldest)
      }
    },
    leave(addresses) {
      if (addresses.size === 0) return
      for (const each of idle) {
        const hops = each.opened.plan.route?.hops ?? []
        if (hops.some(({ holder }) => addresses.has(holder.address))) void drop(each)
      }
    },
    async clear() {
      await Promise.all([...idle].map(drop))
    },
    get size() {
      return idle.size
    },
  }
}
