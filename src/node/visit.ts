import { systemClock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import type { Logger } from '../base/logger.ts'
import { createSwarmView, type SwarmView } from '../coverage/announce.ts'
import { createPeerNode, type PeerNode } from '../p2p/peer-node.ts'
import { type Home, prepareHome } from './home.ts'
import { openIdentity } from './identity.ts'
import { listenAddresses } from './listen.ts'
import { resolveNetwork } from './networks.ts'
import { nodeVersion } from './version.ts'

/**
 * Takes part in the network for a moment without saying anything, for verbs that look around while no node runs on this
 * home. Throws HOME_UNUSABLE, HOME_IN_USE, BAD_CONFIG and what `use` throws.
 */
export async function visitSwarm<T>(
  home: Home,
  config: Config,
  deps: { logger: Logger },
  use: (parts: { peer: PeerNode; swarm: SwarmView }) => Promise<T>,
): Promise<T> {
  await prepareHome(home)
  const { mdns, bootstrap } = config.network
  const { version: network, preSharedKey } = await resolveNetwork(home, config)
  const identity = await openIdentity(home)
  const listen = await listenAddresses({ ...config.network, port: 0 })
  const version = nodeVersion()
  const options = { network, preSharedKey, version, listen, mdns, bootstrap, dht: true }
  const peer = await createPeerNode(options, { identity, logger: deps.logger })
  const swarm = await createSwarmView({ network, version }, { peer, identity, clock: systemClock, logger: deps.logger })
  try {
    await peer.start()
    await swarm.start()
    return await use({ peer, swarm })
  } finally {
    await swarm.stop()
    await peer.stop()
  }
}
