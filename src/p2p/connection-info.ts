import type { Connection } from '@libp2p/interface'
import { isLocalAddr, transportOf } from './peer-addrs.ts'

export interface ConnectionInfo {
  readonly peerId: string
  readonly addr: string
  readonly direction: 'inbound' | 'outbound'
  readonly transport: 'tcp' | 'quic' | 'relay'
  readonly isLocal: boolean
  readonly openedMs: number
}

export function describeConnection(connection: Connection): ConnectionInfo {
  return {
    peerId: connection.remotePeer.toString(),
    addr: connection.remoteAddr.toString(),
    direction: connection.direction,
    transport: transportOf(connection.remoteAddr),
    isLocal: isLocalAddr(connection.remoteAddr),
    openedMs: connection.timeline.open,
  }
}
