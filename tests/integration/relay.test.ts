import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { relayLimits } from '../../src/base/limits-reach.ts'
import type { FramedStream } from '../../src/p2p/framed-stream.ts'
import type { PeerNodeOptions } from '../../src/p2p/peer-node.ts'
import { relayedAddrs } from '../../src/p2p/relay-client.ts'
import type { RelayCapacity } from '../../src/p2p/relay-server.ts'
import { createCleanup, eventually, startPeer, type TestPeer } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(55_000)

const startRelay = (
  capacity: RelayCapacity = relayLimits.bootstrap,
  more: Partial<PeerNodeOptions> = {},
): Promise<TestPeer> => startPeer(cleanup, { vouched: true, relay: capacity, ...more })

const relayedOf = (peer: TestPeer): string[] => peer.node.self.addrs().filter((addr) => addr.includes('/p2p-circuit'))

/** A node that others reach only by way of `relay`. */
async function startHidden(relay: TestPeer): Promise<TestPeer & { relayed: { peerId: string; addrs: string[] } }> {
  const peer = await startPeer(cleanup, { bootstrap: relay.bootstrap })
  const addrs = await eventually(() => relayedOf(peer).length > 0 && relayedOf(peer), 5_000)
  return { ...peer, relayed: { peerId: peer.node.self.peerId, addrs } }
}

function dataFrame(mark: number): Uint8Array {
  const frame = new Uint8Array(14 + 60 * 1024 + 16).fill(mark)
  const view = new DataView(frame.buffer)
  view.setUint8(0, 16)
  view.setUint8(1, mark)
  view.setUint32(2, frame.length - 14)
  return frame
}

describe('a node that nobody can dial', () => {
  it('is reached through a relay, with frames that are those of any link', async () => {
    const relay = await startRelay()
    const hidden = await startHidden(relay)
    const caller = await startPeer(cleanup)
    const accepted = new Promise<FramedStream>((resolve) => hidden.node.onLink(resolve))
    const near = await caller.node.open(hidden.relayed, { signal })
    expect(near.remotePeer).toBe(hidden.node.self.peerId)
    // Relayed strangers are no neighbours: the rules of a LAN do not apply to them.
    expect(near.remoteIsLocal).toBe(false)
    let bytes = 0
    const back = new Promise<void>((resolve) => {
      near.onFrame((frame) => {
        bytes += frame.length
        if (frame[1] === 99) resolve()
      })
    })
    const far = await accepted
    far.onFrame((frame) => far.send(frame))
    // Far beyond libp2p's own limit of 128 KiB.
    for (let i = 0; i < 100; i++) if (!near.send(dataFrame(i))) await near.drained()
    await back
    expect(bytes).toBe(100 * dataFrame(0).length)
    expect(caller.node.connectionTo(hidden.node.self.peerId)?.transport).toBe('relay')
    expect(await caller.node.ping(hidden.node.self.peerId, { signal })).toBeGreaterThan(0)
    expect(relay.node.reachability().relaying).toEqual({ reservations: 1, connections: 1 })
    expect(caller.node.reachability().upgrades).toEqual({ relayed: 1, direct: 0 })
    // A direct connection is used as soon as there is one, and the old circuit lives on.
    await caller.node.meet(`${hidden.target.addrs[0]}`, { signal })
    expect(caller.node.connectionTo(hidden.node.self.peerId)?.transport).toBe('tcp')
    expect(caller.node.reachability().upgrades.direct).toBe(1)
    const again = new Promise<Uint8Array>((resolve) => hidden.node.onLink((link) => link.onFrame(resolve)))
    const direct = await caller.node.open(hidden.relayed, { signal })
    direct.send(dataFrame(7))
    expect((await again)[1]).toBe(7)
  })

  it('has a place again after its relay was away, and leaves none behind when it goes', async () => {
    const first = await startRelay()
    const hidden = await startHidden(first)
    const port = /tcp\/(\d+)/.exec(first.target.addrs[0] ?? '')?.[1]
    await first.node.stop()
    await eventually(() => relayedOf(hidden).length === 0, 3_000)
    const second = await startRelay(relayLimits.bootstrap, { listen: [`/ip4/127.0.0.1/tcp/${port}`] })
    await hidden.node.meet(second.bootstrap[0] ?? '', { signal })
    // Another identity at the same place is no relay of ours; the one that was named in the configuration is.
    expect(relayedOf(hidden)).toEqual([])
    const other = await startHidden(second)
    expect(second.node.reachability().relaying?.reservations).toBe(1)
    await other.node.stop()
    await eventually(() => second.node.reachability().relaying?.reservations === 0, 3_000)
  })
})

describe('a relay', () => {
  it('takes no more places and connections than it wants', async () => {
    const relay = await startRelay({ reservations: 1, connections: 2, perPeer: 1 })
    const hidden = await startHidden(relay)
    const late = await startPeer(cleanup, { bootstrap: relay.bootstrap })
    const [a, b, c] = [await startPeer(cleanup), await startPeer(cleanup), await startPeer(cleanup)]
    await a.node.connect(hidden.relayed, { signal })
    await b.node.connect(hidden.relayed, { signal })
    await expect(c.node.connect(hidden.relayed, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(relay.node.reachability().relaying).toEqual({ reservations: 1, connections: 2 })
    await a.node.stop()
    await eventually(() => relay.node.reachability().relaying?.connections === 1, 3_000)
    await c.node.connect(hidden.relayed, { signal })
    expect(relayedOf(late)).toEqual([])
  })

  it('is none that was not asked to be', async () => {
    const plain = await startPeer(cleanup, { relay: relayLimits.node })
    const peer = await startPeer(cleanup, { bootstrap: plain.bootstrap })
    await eventually(() => peer.node.isConnected(plain.node.self.peerId), 3_000)
    const target = { peerId: peer.node.self.peerId, addrs: [`${plain.bootstrap[0]}/p2p-circuit`] }
    const caller = await startPeer(cleanup)
    await expect(caller.node.connect(target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(plain.node.reachability()).toMatchObject({ relaying: null })
  })
})

describe('addresses that a relay tells', () => {
  const relay = '12D3KooWSdEDemJNB2XmV5m6tvY5nqSdv2nUPbMxPYf3SvP3ndjz'
  const bytes = (text: string) => multiaddr(text).bytes

  it('are its own, public ones if it has any, and few', () => {
    const told = [
      `/ip4/192.168.1.2/tcp/1/p2p/${relay}`,
      `/ip4/11.1.0.1/tcp/1/p2p/${relay}`,
      `/ip4/11.1.0.1/udp/1/quic-v1/p2p/${relay}`,
      `/ip4/11.1.0.2/tcp/1/p2p/${relay}`,
      '/ip4/11.9.9.9/tcp/1/p2p/12D3KooWLbWo1WBWEFJzbVjkgtkyx9BzHiJpKTRjfykUgT4fUSCv',
      `/ip4/11.1.0.1/tcp/1/p2p/${relay}/p2p-circuit/p2p/${relay}`,
    ].map(bytes)
    expect(relayedAddrs(relay, told).map(String)).toEqual([
      `/ip4/11.1.0.1/tcp/1/p2p/${relay}/p2p-circuit`,
      `/ip4/11.1.0.1/udp/1/quic-v1/p2p/${relay}/p2p-circuit`,
    ])
    expect(relayedAddrs(relay, [new Uint8Array([255, 1]), bytes('/ip4/11.1.0.1/tcp/1')])).toEqual([])
    expect(relayedAddrs(relay, told.slice(0, 1))).toHaveLength(1)
  })
})
