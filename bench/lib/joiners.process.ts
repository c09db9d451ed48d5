/**
 * Light peers that join through one bootstrap node, evenly spread over a time: OPTIONS as JSON, see JoinOptions. Each dials,
 * says in the DHT that it belongs to a meeting point, asks for the members of another, and stays until stdin ends. One
 * JSON line on stdout when the last has done so.
 */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { identify } from '@libp2p/identify'
import { type KadDHT, kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { create as createDigest } from 'multiformats/hashes/digest'
import { dhtProtocol } from '../../src/p2p/dht-service.ts'

export interface JoinOptions {
  readonly bootstrap: string
  readonly network: string
  readonly count: number
  /** All of them come within that time. */
  readonly overMs: number
  /** Queries of each. */
  readonly queries: number
}

export interface JoinReport {
  readonly joinMs: readonly number[]
  readonly queryMs: readonly number[]
  /** Joins and queries without an answer. */
  readonly lost: number
}

type Light = Libp2p<{ identify: unknown; ping: unknown; dht: KadDHT }>

const { bootstrap, network, count, overMs, queries }: JoinOptions = JSON.parse(process.argv[2] ?? '')
const SHA2_256 = 0x12
const LIMIT_MS = 10_000

async function createLight(): Promise<Light> {
  return await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: dhtProtocol(network, 'lan'),
        clientMode: true,
        peerInfoMapper: passthroughMapper,
        allowQueryWithZeroPeers: true,
      }),
    },
  })
}

function pointOf(text: string): CID {
  return CID.createV1(raw.code, createDigest(SHA2_256, createHash('sha256').update(text).digest()))
}

async function join(report: { joinMs: number[]; queryMs: number[]; lost: number }): Promise<Light> {
  const light = await createLight()
  const startMs = performance.now()
  try {
    await light.dial(multiaddr(bootstrap), { signal: AbortSignal.timeout(LIMIT_MS) })
    report.joinMs.push(performance.now() - startMs)
  } catch {
    report.lost++
    return light
  }
  // A table fills when the other side has identified itself.
  const table = (light.services.dht as unknown as { routingTable: { size: number } }).routingTable
  while (table.size === 0 && performance.now() - startMs < LIMIT_MS) await delay(20)
  for (let i = 0; i < queries; i++) {
    const askedMs = performance.now()
    let answered = false
    const signal = AbortSignal.timeout(LIMIT_MS)
    try {
      const point = pointOf(`${Math.floor(Math.random() * 64)}`)
      const events =
        i === 0 ? light.services.dht.provide(point, { signal }) : light.services.dht.findProviders(point, { signal })
      for await (const { name } of events) if (name === 'PEER_RESPONSE') answered = true
    } catch {
      answered = false
    }
    if (answered) report.queryMs.push(performance.now() - askedMs)
    else report.lost++
    await delay(randomBytes(1).readUInt8() * 4)
  }
  return light
}

const report = { joinMs: [] as number[], queryMs: [] as number[], lost: 0 }
const lights = await Promise.all(
  Array.from({ length: count }, async (_, i) => {
    await delay((i / count) * overMs)
    return await join(report)
  }),
)
process.stdout.write(`${JSON.stringify(report satisfies JoinReport)}\n`)
process.stdin.resume()
process.stdin.once('end', async () => {
  await Promise.allSettled(lights.map((light) => light.stop()))
  process.exit(0)
})
