import { systemClock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import type { Logger } from '../base/logger.ts'
import { createSwarmView, type SwarmView } from '../coverage/announce.ts'
import { createPeerNode, type PeerNode } from '../p2p/peer-node.ts'
import { type Home, prepareHome } from './home.ts'
import { openIdentity } from './identity.ts'
import { peerOptions } from './listen.ts'
import { resolveNetwork } from './networks.ts'

/**
 * Takes part in the network for a moment without saying anything, for verbs that look around while no node runs on this
 * home; `asNode`: on the node's own port, and the router is asked, too. Throws HOME_UNUSABLE, HOME_IN_USE, BAD_CONFIG and what `use` throws.
 */
export async function visitSwarm<T>(
  home: Home,
  config: Config,
  deps: { logger: Logger; asNode?: boolean },
  use: (parts: { peer: PeerNode; swarm: SwarmView }) => Promise<T>,
): Promise<T> {
  await prepareHome(home)
  const network = await resolveNetwork(home, config)
  const identity = await openIdentity(home)
  const options = await peerOptions(deps.asNode ? config.network : { ...config.network, port: 0, upnp: false }, network)
  const peer = await createPeerNode({ ...options, dht: true }, { identity, logger: deps.logger })
  const view = { network: network.version, version: options.version }
  const swarm = await createSwarmView(view, { peer, identity, clock: systemClock, logger: deps.logger })
  try {
    await peer.start()
    await swarm.start()
    return await use({ peer, swarm })
  } finally {
    await swarm.stop()
    await peer.stop()
  }
}
