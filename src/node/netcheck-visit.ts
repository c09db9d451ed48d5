import { setTimeout as delay } from 'node:timers/promises'
import type { NetcheckBody } from '../api/types.ts'
import type { Config } from '../base/config.ts'
import { linkLimits, reachabilityLimits } from '../base/limits-reach.ts'
import type { Logger } from '../base/logger.ts'
import type { Home } from './home.ts'
import { netcheck } from './netcheck.ts'
import { visitSwarm } from './visit.ts'

/** After the word is found transports are still being compared. */
const MORE_MS = linkLimits.compareAfterMs + 2_000

/**
 * The same for a home on which no node runs: takes part, on the port that the node would have, until it is known how others
 * reach it. At most 20 s. Throws what a visit throws.
 */
export async function netcheckVisit(
  home: Home,
  config: Config,
  deps: { signal: AbortSignal; logger: Logger },
): Promise<NetcheckBody> {
  const { signal } = deps
  return await visitSwarm(home, config, { ...deps, asNode: true }, async ({ peer }) => {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(reachabilityLimits.provenMs + 5_000)])
    await new Promise<void>((resolve) => {
      const look = () => {
        if (deadline.aborted || peer.reachability().word !== 'unknown') resolve()
      }
      peer.onReachability(look)
      deadline.addEventListener('abort', () => resolve(), { once: true })
      look()
    })
    await delay(MORE_MS, undefined, { signal }).catch(() => {})
    return await netcheck({ peer, config, private: config.network.private }, signal)
  })
}
