import { afterEach, describe, expect, it } from 'vitest'
import { createCleanup, startPeer } from './p2p-helpers.ts'
import { modelId, serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

describe('meeting in the DHT', () => {
  it('brings together who serves a model, through nodes that know nothing of adverts', async () => {
    // It keeps the DHT and nothing else: no advert goes through it.
    const meeting = await startPeer(cleanup, { dht: true })
    const { bootstrap } = meeting
    const holder = await startSwarmNode(cleanup, { bootstrap, dht: true, serving: [serve(4, 10)] })
    const newcomer = await startSwarmNode(cleanup, { bootstrap, dht: true })
    expect(newcomer.swarm.peers()).toEqual([])
    let met = 0
    for (let attempt = 0; attempt < 50 && met === 0; attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      met = await newcomer.swarm.seek(modelId, 12, { signal })
    }
    expect(met).toBe(1)
    await until(newcomer.swarm, () => newcomer.swarm.holders(modelId, 'i8/1').length === 1, 5_000)
    expect(newcomer.node.isConnected(holder.node.self.peerId)).toBe(true)
    // Another model has another meeting point.
    const other = await startSwarmNode(cleanup, { bootstrap, dht: true })
    expect(await other.swarm.seek(new Uint8Array(32).fill(1), 12, { signal })).toBe(0)
  })

  it('does nothing where there is no DHT', async () => {
    const alone = await startSwarmNode(cleanup, { serving: [serve(0, 4)] })
    expect(await alone.swarm.seek(modelId, 12, { signal })).toBe(0)
  })
})
