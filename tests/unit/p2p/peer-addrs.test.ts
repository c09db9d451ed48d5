import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { compareDialAddrs, shareableAddrs } from '../../../src/p2p/peer-addrs.ts'

const peer = '12D3KooWSdEDemJNB2XmV5m6tvY5nqSdv2nUPbMxPYf3SvP3ndjz'
const relay = '12D3KooWLbWo1WBWEFJzbVjkgtkyx9BzHiJpKTRjfykUgT4fUSCv'
const other = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'

describe('a dial tries', () => {
  const order = (preferred: 'tcp' | 'quic', addrs: string[]) =>
    addrs
      .map((addr) => multiaddr(addr))
      .sort((a, b) =>
        compareDialAddrs(a, b, {
          isOwnNetwork: (ip) => ip.startsWith('192.168.1.'),
          isConnected: (id) => id === relay,
          preferred: () => preferred,
        }),
      )
      .map(String)
  const inOrder = [
    `/ip4/192.168.1.7/tcp/1/p2p/${peer}`,
    `/ip4/11.1.0.7/tcp/1/p2p/${peer}`,
    `/ip4/11.1.0.7/udp/1/quic-v1/p2p/${peer}`,
    `/ip4/127.0.0.1/tcp/1/p2p/${peer}`,
    `/ip4/11.2.0.7/tcp/1/p2p/${relay}/p2p-circuit/p2p/${peer}`,
    `/ip4/11.3.0.7/tcp/1/p2p/${other}/p2p-circuit/p2p/${peer}`,
    `/ip4/10.0.0.7/tcp/1/p2p/${peer}`,
  ]

  it('its own network, public addresses, living relays, dead ones, foreign private networks', () => {
    expect(order('tcp', [...inOrder].reverse())).toEqual(inOrder)
  })

  it('QUIC first where that was chosen', () => {
    expect(order('quic', inOrder.slice(1, 3))).toEqual([inOrder[2], inOrder[1]])
  })
})

describe('addresses that are told', () => {
  const tell = (addrs: string[]) => shareableAddrs(addrs.map((addr) => multiaddr(`${addr}/p2p/${peer}`)))

  it('are public ones, one of each relay, and those of the own network', () => {
    const relayed = `/ip4/11.2.0.7/tcp/1/p2p/${relay}/p2p-circuit`
    const told = tell([
      '/ip4/127.0.0.1/tcp/1',
      '/ip4/192.168.1.7/tcp/1',
      `/ip4/11.2.0.7/udp/1/quic-v1/p2p/${relay}/p2p-circuit`,
      relayed,
      '/ip4/11.1.0.7/tcp/1',
    ])
    expect(told).toEqual(['/ip4/11.1.0.7/tcp/1', relayed, '/ip4/192.168.1.7/tcp/1'])
  })

  it('are six, whatever there is', () => {
    expect(tell(Array.from({ length: 20 }, (_, i) => `/ip4/192.168.1.${i + 1}/tcp/1`))).toHaveLength(6)
    expect(tell(['/ip4/127.0.0.1/tcp/1'])).toEqual(['/ip4/127.0.0.1/tcp/1'])
  })
})
