import type { Identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import type { Ping } from '@libp2p/ping'
import type { OwnAddresses } from './own-addresses.ts'
import type { RelayServer } from './relay-server.ts'

export type Services = {
  identify: Identify
  identifyPush: unknown
  holePunch: unknown
  upnp?: unknown
  ping: Ping
  lanDht?: KadDHT
  wanDht?: KadDHT
  relayServer: RelayServer
  addresses: OwnAddresses
  autonat: unknown
}
export type Host = Libp2p<Services>
