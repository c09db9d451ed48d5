import type { Multiaddr } from '@multiformats/multiaddr'

/** What libp2p knows about this node's own addresses. */
export interface OwnAddresses {
  getAddressesWithMetadata(): {
    readonly multiaddr: Multiaddr
    readonly verified: boolean
    readonly type: string
    readonly lastVerified?: number
  }[]
  confirmObservedAddr(addr: Multiaddr, options: { type: 'transport' | 'observed' | 'ip-mapping'; ttl: number }): void
  removeObservedAddr(addr: Multiaddr): void
  addPublicAddressMapping(ip: string, port: number, outerIp: string, outerPort: number, protocol: 'tcp' | 'udp'): void
}
