import { afterEach, describe, expect, it } from 'vitest'
import { mapCoverage } from '../../src/coverage/map.ts'
import { createCleanup, eventually, startPeer, temporaryFolder } from './p2p-helpers.ts'
import { modelId, type SwarmNode, serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

const others = (node: SwarmNode) => node.swarm.peers().filter((peer) => !peer.self)
const knows = (node: SwarmNode, ...whom: SwarmNode[]) =>
  whom.every(({ identity }) => others(node).some((peer) => peer.address === identity.address && peer.addrs.length > 0))

/** Three nodes in a star round the first one, each with its layers. */
async function threeNodes(): Promise<[SwarmNode, SwarmNode, SwarmNode]> {
  const a = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
  const b = await startSwarmNode(cleanup, { bootstrap: a.bootstrap, serving: [serve(4, 8)] })
  const c = await startSwarmNode(cleanup, { bootstrap: a.bootstrap, serving: [serve(8, 12)] })
  return [a, b, c]
}

describe('swarm', () => {
  it('learns who serves what and where, through one common peer', async () => {
    const startMs = performance.now()
    const [a, b, c] = await threeNodes()
    await until(a.swarm, () => knows(a, b, c), 3_000)
    await until(b.swarm, () => knows(b, a, c), 3_000)
    await until(c.swarm, () => knows(c, a, b), 3_000)
    const tookMs = performance.now() - startMs
    // biome-ignore lint/suspicious/noConsole: the figure is part of what this test is for.
    console.info(`three nodes started and knew each other after ${tookMs.toFixed(0)} ms`)
    expect(tookMs).toBeLessThan(3_000)
    for (const node of [a, b, c]) {
      const holders = node.swarm.holders(modelId, 'i8/1')
      expect(mapCoverage(holders, 12)).toEqual({ replicas: Array(12).fill(1), gaps: [] })
      expect(node.swarm.holders(modelId, 'f32/1')).toEqual([])
    }
    const contact = await b.swarm.contact(c.identity.address, { signal })
    expect(contact.peerId).toBe(c.node.self.peerId)
    expect(contact.addressKey).toEqual(c.identity.addressKey)
    expect(contact.onionKey).toEqual(c.identity.onionKeys(Date.now())[0].publicKey)
    expect(contact.addrs).toEqual(c.target.addrs)
    await b.node.connect(contact, { signal })
  })

  it('hears at once when layers change', async () => {
    const [, b, c] = await threeNodes()
    await until(b.swarm, () => knows(b, c), 3_000)
    await c.swarm.publish([serve(8, 16, { state: 'draining' })])
    await until(b.swarm, () => others(b).some((peer) => peer.serving[0]?.span.end === 16), 2_000)
    expect(others(b).find((peer) => peer.address === c.identity.address)?.state).toBe('draining')
  })

  it('lets a node that says good-bye go within two seconds', async () => {
    const [a, b, c] = await threeNodes()
    await until(b.swarm, () => knows(b, a, c), 3_000)
    await until(a.swarm, () => knows(a, b, c), 3_000)
    const startMs = performance.now()
    const stopping = c.swarm.stop().then(() => c.node.stop())
    await until(b.swarm, () => !knows(b, c), 2_000)
    await until(a.swarm, () => !knows(a, c), 2_000)
    // biome-ignore lint/suspicious/noConsole: the figure is part of what this test is for.
    console.info(`good-bye heard after ${(performance.now() - startMs).toFixed(0)} ms`)
    await stopping
    expect(mapCoverage(b.swarm.holders(modelId, 'i8/1'), 12).gaps).toEqual([{ start: 8, end: 12 }])
  })

  it('no longer counts a node that vanished without a word', async () => {
    const [a, b, c] = await threeNodes()
    await until(a.swarm, () => knows(a, b, c), 3_000)
    await c.node.stop()
    await until(a.swarm, () => !knows(a, c), 6_000)
    expect(knows(a, b)).toBe(true)
  })

  it('takes a node back that restarts with the same keys', async () => {
    const [keys, folder] = [await temporaryFolder(cleanup), await temporaryFolder(cleanup)]
    const a = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
    const options = { bootstrap: a.bootstrap, identityFolder: keys, folder, serving: [serve(4, 8)] }
    const b = await startSwarmNode(cleanup, options)
    await until(a.swarm, () => knows(a, b), 3_000)
    await b.swarm.stop()
    await b.node.stop()
    await until(a.swarm, () => !knows(a, b), 3_000)
    const again = await startSwarmNode(cleanup, options)
    await until(a.swarm, () => knows(a, again), 3_000)
    expect(others(a)[0]?.addrs).toEqual(again.target.addrs)
  })

  it('keeps networks with different names apart', async () => {
    const a = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
    const b = await startSwarmNode(cleanup, { bootstrap: a.bootstrap, serving: [serve(4, 8)] })
    const stranger = await startSwarmNode(cleanup, {
      network: 'other',
      bootstrap: a.bootstrap,
      serving: [serve(8, 12)],
    })
    await until(b.swarm, () => knows(b, a), 3_000)
    await eventually(() => stranger.node.isConnected(a.node.self.peerId), 3_000)
    // Time enough for both sides to try the exchange, the second one after 1.5 s.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    expect(others(stranger)).toEqual([])
    expect(others(a).map((peer) => peer.address)).toEqual([b.identity.address])
    await expect(a.swarm.contact(stranger.identity.address, { signal })).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    })
  })

  it('shows a guest everything and everybody nothing of the guest', async () => {
    const [a, b] = await threeNodes()
    const guest = await startSwarmNode(cleanup, { bootstrap: a.bootstrap })
    await until(guest.swarm, () => knows(guest, a, b), 3_000)
    expect(others(guest)).toHaveLength(3)
    expect(guest.swarm.peers().some((peer) => peer.self)).toBe(false)
    expect(others(a).some((peer) => peer.address === guest.identity.address)).toBe(false)
    await expect(a.swarm.contact(guest.identity.address, { signal })).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    })
  })

  it('finds a record by asking when the advert came without', async () => {
    const a = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
    const b = await startSwarmNode(cleanup, { bootstrap: a.bootstrap })
    await eventually(() => b.node.isConnected(a.node.self.peerId), 3_000)
    const found = await b.swarm.book.find(a.identity.addressKey, { signal })
    expect(found.record.peerId).toBe(a.node.self.peerId)
    await expect(b.swarm.contact('nonsense', { signal })).rejects.toMatchObject({ code: 'BAD_ADDRESS' })
  })

  it('connects to more than the peer through which it came', async () => {
    const [, b, c] = await threeNodes()
    await until(b.swarm, () => others(b).some((peer) => peer.peerId === c.node.self.peerId && peer.connected), 15_000)
  })

  it('answers nobody who only listens', async () => {
    const a = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
    const mute = await startPeer(cleanup, { bootstrap: a.bootstrap })
    await eventually(() => mute.node.isConnected(a.node.self.peerId), 3_000)
    expect(others(a)).toEqual([])
  })
})
