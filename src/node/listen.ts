import { createSocket } from 'node:dgram'
import { createServer, isIP } from 'node:net'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { listenAddrs, parseMultiaddr } from '../p2p/peer-addrs.ts'
import type { PeerNodeOptions } from '../p2p/peer-node.ts'
import type { ResolvedNetwork } from './networks.ts'
import { nodeVersion } from './version.ts'

const DEFAULT_PORT = 5561

/** What every node of this machine needs to know of its configuration. Throws BAD_INPUT (an address). */
export async function peerOptions(
  config: Config['network'],
  network: ResolvedNetwork,
): Promise<PeerNodeOptions & { readonly listen: readonly string[] }> {
  return {
    network: network.version,
    preSharedKey: network.preSharedKey,
    version: nodeVersion(),
    listen: await listenAddresses(config),
    mdns: config.mdns,
    bootstrap: config.bootstrap,
    announce: config.announce.map((addr) => parseMultiaddr(addr).toString()),
    // No router leads to a node that listens on loopback alone.
    upnp: config.upnp && !/^(127\.|::1$)/.test(config.host),
  }
}

/**
 * Multiaddrs to listen on: TCP and QUIC, on one port. Without a port of its own in the configuration: 5561, or any free one
 * when that is taken. QUIC is left out where its port is not free.
 */
async function listenAddresses({ host, port }: Pick<Config['network'], 'host' | 'port'>): Promise<string[]> {
  if (isIP(host) === 0) {
    throw new LlmNodeError('BAD_INPUT', `"${host}" is no IP address to listen on.`, {
      hint: 'Write an address of this machine, or 0.0.0.0 for all of them.',
    })
  }
  const chosen = port ?? ((await isFree(host, DEFAULT_PORT)) ? DEFAULT_PORT : 0)
  return listenAddrs(host, chosen, (await isFreeUdp(host, chosen)) ? ['tcp', 'quic'] : ['tcp'])
}

export function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

function isFreeUdp(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.once('error', () => {
      socket.close()
      resolve(false)
    })
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(true)))
  })
}
