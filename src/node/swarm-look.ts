import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import { formatSpan } from '../base/span.ts'
import type { SwarmView } from '../coverage/announce.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { Home } from './home.ts'
import { visitSwarm } from './visit.ts'

export interface SeenPeer {
  readonly address: string
  /** "layers 4-7", one for each model. */
  readonly serving: readonly string[]
}

/** A look at a network that goes on until it is closed. */
export interface SwarmLook {
  readonly peer: PeerNode
  readonly swarm: SwarmView
  close(): Promise<void>
}

/** Takes part in the network without saying anything. Throws what `visitSwarm` throws. */
export async function openSwarmLook(
  home: Home,
  config: Config,
  deps: { logger: Logger; onPeers: (peers: readonly SeenPeer[]) => void },
): Promise<SwarmLook> {
  const closing = Promise.withResolvers<void>()
  const opened = Promise.withResolvers<{ peer: PeerNode; swarm: SwarmView }>()
  const visit = visitSwarm(home, config, deps, async (parts) => {
    const tell = () => deps.onPeers(seenPeers(parts.swarm))
    const unsubscribe = parts.swarm.onChange(tell)
    opened.resolve(parts)
    await closing.promise
    unsubscribe()
  })
  visit.then(
    () => opened.reject(new LlmNodeError('ABORTED', 'Stopped on request.')),
    (error) => opened.reject(error),
  )
  const parts = await opened.promise
  return {
    ...parts,
    async close() {
      closing.resolve()
      await visit
    },
  }
}

function seenPeers(swarm: SwarmView): SeenPeer[] {
  return swarm
    .peers()
    .filter(({ self }) => !self)
    .map(({ address, serving }) => ({ address, serving: serving.map(({ span }) => `layers ${formatSpan(span)}`) }))
}
