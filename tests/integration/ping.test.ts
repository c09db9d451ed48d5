import { afterEach, describe, expect, it } from 'vitest'
import { pingAddress } from '../../src/node/ping.ts'
import { formatAddressUri, parseAddressUri } from '../../src/p2p/address.ts'
import { createCleanup } from './p2p-helpers.ts'
import { type SwarmNode, serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

const ping = (from: SwarmNode, uri: string) =>
  pingAddress({ peer: from.node, swarm: from.swarm }, parseAddressUri(uri), { signal, withinMs: 1_000 })

describe('ping', () => {
  it('finds a node through another one, and says what it serves', async () => {
    const meeting = await startSwarmNode(cleanup, { serving: [] })
    const a = await startSwarmNode(cleanup, { bootstrap: meeting.bootstrap })
    const b = await startSwarmNode(cleanup, { bootstrap: meeting.bootstrap, serving: [serve(0, 4)] })
    await until(a.swarm, () => a.swarm.peers().some(({ address }) => address === b.identity.address), 5_000)
    const answer = await ping(a, b.identity.address)
    expect(answer).toMatchObject({ peerId: b.node.self.peerId, foundBy: 'known', path: 'direct', state: 'online' })
    expect(answer.serving).toMatchObject([{ span: { start: 0, end: 4 }, recipe: 'i8/1' }])
    expect(answer.rttMs).toHaveLength(3)
    expect(answer.addr).toContain(b.target.addrs[0] ?? 'no address')
  })

  it('finds a node at a hint when nobody else is there', async () => {
    const a = await startSwarmNode(cleanup)
    const b = await startSwarmNode(cleanup, { serving: [serve(2, 3)] })
    await expect(ping(a, b.identity.address)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    const answer = await ping(a, formatAddressUri(b.identity.addressKey, b.target.addrs))
    expect(answer).toMatchObject({ peerId: b.node.self.peerId, foundBy: 'hint' })
    expect(answer.serving).toHaveLength(1)
  })

  it('does not take whoever answers at a hint for the one asked for', async () => {
    const a = await startSwarmNode(cleanup)
    const other = await startSwarmNode(cleanup, { serving: [] })
    const wanted = await startSwarmNode(cleanup, { serving: [] })
    const lie = formatAddressUri(wanted.identity.addressKey, other.target.addrs)
    await expect(ping(a, lie)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  it('is not for oneself', async () => {
    const a = await startSwarmNode(cleanup, { serving: [] })
    await expect(ping(a, a.identity.address)).rejects.toMatchObject({ code: 'BAD_INPUT' })
  })
})
