import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { configSchema } from '../../src/base/config.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { SwarmPeer } from '../../src/coverage/swarm-peers.ts'
import { createPrivacy, whoMayBeMet } from '../../src/node/privacy.ts'
import { createCleanup, temporaryFolder } from './p2p-helpers.ts'
import { modelId, serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

const addrs = () => ['/ip4/10.0.7.9/tcp/1']
const peer = (address: string, change: Partial<SwarmPeer> = {}): SwarmPeer => ({
  address,
  addressKey: new Uint8Array(32),
  peerId: address,
  self: false,
  serving: [],
  state: 'online',
  relay: true,
  reachability: 'unknown',
  version: '',
  connected: false,
  rttMs: null,
  ageMs: 0,
  addrs: [],
  family: [],
  ...change,
})

test('guards outlive the process, in a file for this user alone', async () => {
  const file = join(await temporaryFolder(cleanup), 'guards.json')
  const config = configSchema.parse({}).privacy
  const swarm = { peers: () => [...'abcdefgh'].map((name) => peer(name)) }
  const open = () => createPrivacy({ file, config }, { swarm, addrs, clock: systemClock, logger: silentLogger })
  const first = await open()
  const guards = first.guards({ computing: true })
  expect(guards).toHaveLength(3)
  await first.flush()
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  for (let i = 0; i < 5; i++) expect((await open()).guards({ computing: true })).toEqual(guards)
  await writeFile(file, '{"version":1,"guards":[{"address":5}]}')
  const anew = await open()
  expect(anew.guards({ computing: true })).toHaveLength(3)
  await anew.flush()
  expect(await readFile(file, 'utf8')).toContain('sinceMs')
})

test.each(['auto', 'guarded'] as const)('a node that asks %s: whom it meets of itself', async (profile) => {
  const mayMeet = whoMayBeMet({ ...configSchema.parse({}).privacy, profile })
  const relay = await startSwarmNode(cleanup, { serving: [] })
  const computing = await startSwarmNode(cleanup, { bootstrap: relay.bootstrap, serving: [serve(0, 4)] })
  const other = await startSwarmNode(cleanup, { bootstrap: relay.bootstrap, serving: [] })
  const asking = await startSwarmNode(cleanup, { bootstrap: relay.bootstrap, mayMeet, tickMs: 50 })
  const knows = ({ identity }: { identity: { address: string } }) =>
    asking.swarm.peers().some(({ address }) => address === identity.address)
  await until(asking.swarm, () => knows(computing) && knows(other), 10_000)
  const met = () => new Set(asking.node.connections().map(({ peerId }) => peerId))
  await expect.poll(() => met().has(other.node.self.peerId), { timeout: 10_000 }).toBe(true)
  if (profile === 'auto') {
    await expect.poll(() => met().has(computing.node.self.peerId), { timeout: 10_000 }).toBe(true)
  } else {
    // Everybody else has had a turn, and more of them.
    expect(met()).toEqual(new Set([relay.node.self.peerId, other.node.self.peerId]))
    expect(asking.swarm.holders(modelId, 'i8/1').map(({ address }) => address)).toEqual([computing.identity.address])
  }
})

test('only who forwards, can be dialled and stays; nodes without layers alone where others are to be spared', async () => {
  const file = join(await temporaryFolder(cleanup), 'guards.json')
  const serving = [{} as SwarmPeer['serving'][number]]
  const list = [
    peer('self', { self: true }),
    peer('not', { relay: false }),
    peer('relayed', { reachability: 'relayed' }),
    peer('elsewhere', { reachability: 'unreachable', addrs: ['/ip4/10.0.9.1/tcp/1'] }),
    peer('beside', { reachability: 'unreachable', addrs: ['/ip4/10.0.7.1/tcp/1'], serving }),
    peer('leaving', { state: 'draining' }),
    peer('holds', { serving }),
    peer('good', { addrs: ['/ip4/203.0.113.5/tcp/1', '/ip4/10.0.0.1/tcp/1'], family: ['x'] }),
  ]
  const privacy = await createPrivacy(
    { file, config: configSchema.parse({}).privacy },
    { swarm: { peers: () => list }, addrs, clock: systemClock, logger: silentLogger },
  )
  expect(privacy.guards({ computing: false }).map(({ address }) => address)).toEqual(['good'])
  expect(
    privacy
      .guards({ computing: true })
      .map(({ address }) => address)
      .sort(),
  ).toEqual(['beside', 'good', 'holds'])
  expect(privacy.placeOf('good')).toEqual({ address: 'good', family: ['x'], networks: ['203.0.0.0/16'] })
  await privacy.flush()
})
