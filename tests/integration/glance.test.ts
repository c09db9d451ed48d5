import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { loadConfig, locateHome } from '../../src/node/home.ts'
import { lookAround } from '../../src/node/swarm-glance.ts'
import { createCleanup, startPeer, temporaryFolder } from './p2p-helpers.ts'
import { modelId, serve, startSwarmNode } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

it('a fresh home with a bootstrap address finds the holders of a model through the DHT alone', async () => {
  // It keeps the DHT and nothing else: no advert goes through it.
  const { bootstrap } = await startPeer(cleanup, { dht: true })
  await startSwarmNode(cleanup, { bootstrap, dht: true, serving: [serve(4, 10)] })
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  const network = { name: 'test', mdns: false, host: '127.0.0.1', bootstrap, upnp: false }
  const config = await loadConfig(home, { env: {}, overrides: { network } })
  const deps = { signal: AbortSignal.timeout(30_000), logger: silentLogger }
  const { peers, holders } = await lookAround(home, config, toHex(modelId), deps)
  expect(peers).toBe(1)
  expect([...holders.keys()]).toEqual(['i8/1'])
})
