import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createCleanup, temporaryFolder } from './p2p-helpers.ts'
import { serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

describe('a home that was copied to a second machine', () => {
  it('is noticed through a third node', async () => {
    const folder = await temporaryFolder(cleanup)
    const home = join(folder, 'home')
    const middle = await startSwarmNode(cleanup, { serving: [] })
    const { bootstrap } = middle
    const first = await startSwarmNode(cleanup, {
      bootstrap,
      identityFolder: home,
      folder: home,
      serving: [serve(0, 2)],
    })
    const sees = () => middle.swarm.peers().some(({ address }) => address === first.identity.address)
    await until(middle.swarm, sees, 5_000)
    expect(first.swarm.duplicated).toBe(false)
    const copy = join(folder, 'copy')
    await cp(home, copy, { recursive: true })
    // A new advert of the first one, after the copy was made.
    await first.swarm.publish([serve(0, 3)])
    await until(middle.swarm, () => middle.swarm.peers().some(({ serving }) => serving[0]?.span.end === 3), 5_000)
    const second = await startSwarmNode(cleanup, { bootstrap, identityFolder: copy, folder: copy })
    expect(second.identity.address).toBe(first.identity.address)
    await until(second.swarm, () => second.swarm.duplicated, 10_000)
    // And so does the first one, as soon as the copy says anything.
    expect(first.swarm.duplicated).toBe(false)
    await second.swarm.publish([serve(0, 4)])
    await until(first.swarm, () => first.swarm.duplicated, 10_000)
    // Which says its own again, so that whoever has come later and heard nothing hears of it.
    await until(middle.swarm, () => middle.swarm.peers().some(({ serving }) => serving[0]?.span.end === 3), 5_000)
  })

  it('does not take the other one with it when it leaves', async () => {
    const folder = await temporaryFolder(cleanup)
    const [home, copy] = [join(folder, 'home'), join(folder, 'copy')]
    const middle = await startSwarmNode(cleanup, { serving: [] })
    const { bootstrap } = middle
    const options = { bootstrap, identityFolder: home, folder: home, serving: [serve(0, 2)] }
    const first = await startSwarmNode(cleanup, options)
    const spanEnds = () => middle.swarm.peers().flatMap(({ serving }) => serving.map(({ span }) => span.end))
    await until(middle.swarm, () => spanEnds().includes(2), 5_000)
    await cp(home, copy, { recursive: true })
    const second = await startSwarmNode(cleanup, { bootstrap, identityFolder: copy, folder: copy })
    await second.swarm.publish([serve(0, 4)])
    await until(middle.swarm, () => spanEnds().includes(4), 5_000)
    await second.swarm.stop()
    await second.node.stop()
    // The next comparison of the first one with its neighbour.
    await until(middle.swarm, () => spanEnds().includes(2), 45_000)
    expect(first.swarm.duplicated).toBe(true)
  }, 60_000)

  it('is not suspected when a node was killed and comes back', async () => {
    const home = join(await temporaryFolder(cleanup), 'home')
    const middle = await startSwarmNode(cleanup, { serving: [] })
    const { bootstrap } = middle
    const options = { bootstrap, identityFolder: home, folder: home }
    const first = await startSwarmNode(cleanup, { ...options, serving: [serve(0, 2)] })
    await until(middle.swarm, () => middle.swarm.peers().some(({ serving }) => serving.length === 1), 5_000)
    // Without a word: no tombstone, the advert stays with the others.
    await first.node.stop()
    const again = await startSwarmNode(cleanup, { ...options, serving: [serve(0, 2)] })
    const other = await startSwarmNode(cleanup, { bootstrap, serving: [serve(2, 4)] })
    const sees = () => again.swarm.peers().some(({ address }) => address === other.identity.address)
    await until(again.swarm, sees, 8_000)
    expect(again.swarm.duplicated).toBe(false)
  })
})
