/**
 * What a short stream costs: open it, negotiate, 32 bytes there and back, close; both ends in this process, over loopback.
 * Beside js-libp2p as it comes: TCP, noise, yamux, identify, ping, known peers in LevelDB; without its own pings, which would
 * be measured with the others.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { LevelDatastore } from 'datastore-level'
import { createLibp2p } from 'libp2p'
import { silentLogger } from '../src/base/logger.ts'
import { loadOrCreateIdentity } from '../src/p2p/identity.ts'
import { listenAddrs } from '../src/p2p/peer-addrs.ts'
import { createPeerNode } from '../src/p2p/peer-node.ts'
import { pingConnection } from '../src/p2p/ping-connection.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'

const options = benchOptions()
const STREAMS = 250
const ROUNDS = options.quick ? 5 : 20
const signal = new AbortController().signal
const home = await mkdtemp(join(tmpdir(), 'llm-bench-streams-'))

/** Two nodes that know each other: one short stream, and their end. */
interface Pair {
  trip(): Promise<unknown>
  close(): Promise<unknown>
}

async function createOwn(): Promise<Pair> {
  const [a, b] = await Promise.all([ownNode('a'), ownNode('b')])
  await a.connect({ peerId: b.self.peerId, addrs: b.self.addrs() }, { signal })
  return { trip: () => a.ping(b.self.peerId, { signal }), close: () => Promise.all([a.stop(), b.stop()]) }
}

async function ownNode(name: string) {
  const folder = await mkdtemp(join(home, name))
  const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
  const node = await createPeerNode(
    {
      ...{ network: 'bench', version: '0.0.0', folder, mdns: false, dht: false },
      ...{ listen: listenAddrs('127.0.0.1', 0, ['tcp']), transports: ['tcp'] },
    },
    { identity, logger: silentLogger },
  )
  await node.start()
  return node
}

async function createPlain(): Promise<Pair> {
  const [a, b] = await Promise.all([plainNode('c'), plainNode('d')])
  const connection = await a.host.dial(b.host.getMultiaddrs())
  return { trip: () => pingConnection(connection, { signal }), close: () => Promise.all([a.stop(), b.stop()]) }
}

async function plainNode(name: string) {
  const datastore = new LevelDatastore(await mkdtemp(join(home, name)))
  await datastore.open()
  const host = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() },
    connectionMonitor: { enabled: false },
    datastore,
  })
  const stop = async () => {
    await host.stop()
    await datastore.close()
  }
  return { host, stop }
}

const pairs = [
  { name: 'llm-node', pair: await createOwn(), cpuMs: [] as number[], wallMs: [] as number[] },
  { name: 'js-libp2p', pair: await createPlain(), cpuMs: [] as number[], wallMs: [] as number[] },
]
// In turns, so that a slow minute of the machine meets both; the first round of each is not counted.
for (let round = 0; round <= ROUNDS; round++) {
  for (const { pair, cpuMs, wallMs } of pairs) {
    const [startMs, start] = [performance.now(), process.cpuUsage()]
    for (let i = 0; i < STREAMS; i++) await pair.trip()
    const { user, system } = process.cpuUsage(start)
    if (round === 0) continue
    cpuMs.push((user + system) / 1_000 / STREAMS)
    wallMs.push((performance.now() - startMs) / STREAMS)
  }
}
for (const { pair } of pairs) await pair.close()
await rm(home, { recursive: true })

console.log(`a short stream, median of ${ROUNDS} × ${STREAMS}   processor time, both ends   time`)
for (const { name, cpuMs, wallMs } of pairs) {
  console.log(`${name.padEnd(40)} ${median(cpuMs).toFixed(2)} ms                   ${median(wallMs).toFixed(2)} ms`)
}
const [own, plain] = pairs.map(({ cpuMs }) => median(cpuMs))
reportFigures('streams', { streamCpuMs: own ?? Number.NaN, streamCpuMsPlain: plain ?? Number.NaN }, options)
