import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { systemClock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import { bootstrapLimits } from '../base/limits.ts'
import { relayLimits } from '../base/limits-reach.ts'
import { createLogger } from '../base/logger.ts'
import { createSwarmView, type SwarmView } from '../coverage/announce.ts'
import { createOnionService, type OnionService } from '../onion/service.ts'
import { createPeerNode, type PeerNode } from '../p2p/peer-node.ts'
import { loadConfig, prepareHome } from './home.ts'
import { openIdentity } from './identity.ts'
import { makeInvite } from './joining.ts'
import { peerOptions } from './listen.ts'
import { resolveNetwork } from './networks.ts'
import type { NodeOptions } from './node.ts'
import { surviveStrayFaults } from './stray-faults.ts'
import { nodeVersion } from './version.ts'

export interface BootstrapOptions extends Omit<NodeOptions, 'guest'> {
  /** Where /healthz and /metrics are served. */
  readonly http: { readonly host: string; readonly port: number }
}

export interface BootstrapState {
  readonly address: string
  readonly listening: readonly string[]
  /** Base of /healthz and /metrics. */
  readonly url: string
  /** Null in a private network, whose key it would hold. */
  readonly invite: string | null
}

interface Parts {
  readonly peer: PeerNode
  readonly swarm: SwarmView
  readonly onion: OnionService
}

/**
 * A node without layers, through which others meet until `signal` fires: it keeps and hands on adverts and contact records,
 * relays circuits, and holds its identity and the peers it knows across restarts. Throws HOME_IN_USE, PORT_IN_USE,
 * BAD_CONFIG.
 */
export async function runBootstrap(
  options: BootstrapOptions,
  run: { signal: AbortSignal; onReady(state: BootstrapState): void },
): Promise<void> {
  const { home } = options
  await prepareHome(home)
  const config = await loadConfig(home, options)
  const logger = createLogger({ level: config.log.level })
  const network = await resolveNetwork(home, config)
  const identity = await openIdentity(home)
  const [version, folder] = [nodeVersion(), home.dataFolder]
  const peer = await createPeerNode(
    {
      ...(await peerOptions(config.network, network)),
      folder,
      limits: bootstrapLimits,
      dht: true,
      relay: relayLimits.bootstrap,
      vouched: true,
    },
    { identity, logger },
  )
  const swarm = await createSwarmView(
    { network: network.version, version, folder },
    { peer, identity, clock: systemClock, logger },
  )
  const onion = createOnionService(
    { identity, network: network.version, relay: () => true, lan: true, published: () => true },
    { transport: peer, compute: null, clock: systemClock, logger },
  )
  let http: { url: string; close(): void } | undefined
  const forget = surviveStrayFaults(logger)
  try {
    await peer.start()
    await swarm.start()
    const publish = () => swarm.publish([], { relay: true, reachability: peer.reachability().word })
    await publish()
    peer.onReachability(() => {
      void publish()
    })
    http = await serveState(options.http, { peer, swarm, onion })
    const listening = peer.self.addrs().map((addr) => `${addr}/p2p/${peer.self.peerId}`)
    const invite = network.preSharedKey === undefined ? makeInvite({ network, config, listening }).line : null
    run.onReady({ address: identity.address, listening, url: http.url, invite })
    if (!run.signal.aborted) {
      await new Promise((resolve) => run.signal.addEventListener('abort', resolve, { once: true }))
    }
  } finally {
    http?.close()
    await swarm.stop()
    await onion.stop()
    await peer.stop()
    forget()
  }
}

async function serveState(
  at: BootstrapOptions['http'],
  parts: Parts,
): Promise<{ readonly url: string; close(): void }> {
  const startedMs = performance.now()
  const registry = createRegistry(parts)
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0]
    if (path === '/healthz') {
      const uptimeS = Math.round((performance.now() - startedMs) / 1_000)
      const body = { ok: true, peers: parts.peer.connections().length, uptimeS, version: nodeVersion() }
      response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
    } else if (path === '/metrics') {
      registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      )
    } else {
      response.writeHead(404).end()
    }
  })
  server.maxConnections = 64
  server.requestTimeout = 10_000
  await listen(server, at)
  const { address, port, family } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

function listen(server: Server, { host, port }: BootstrapOptions['http']): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new LlmNodeError('PORT_IN_USE', `Health and metrics cannot be served on ${host}:${port}.`, {
          hint: 'Choose another port with --http-port, or 0 for any free one.',
          cause,
        }),
      )
    })
    server.listen(port, host, resolve)
  })
}

/** Names no peer: whoever may read the metrics learns numbers only. */
function createRegistry({ peer, swarm, onion }: Parts): Registry {
  const registry = new Registry()
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number): void => {
    const made: Gauge = new Gauge({ name: `llm_bootstrap_${name}`, help, registers, collect: () => made.set(read()) })
  }
  const relaying = () => peer.reachability().relaying
  gauge('connections', 'Open connections.', () => peer.connections().length)
  gauge('adverts', 'Live adverts in the cache, its own included.', () => swarm.peers().length)
  gauge('relay_circuits', 'Circuits relayed.', () => onion.stats().relayCircuits)
  gauge('queued_bytes', 'Bytes that wait in relayed circuits.', () => onion.stats().queuedBytes)
  gauge('relay_reservations', 'Nodes that are reached through this one.', () => relaying()?.reservations ?? 0)
  gauge('relayed_connections', 'Connections relayed to them.', () => relaying()?.connections ?? 0)
  gauge('dht_records', 'Contact records kept for the DHT.', () => peer.dht?.kept().records ?? 0)
  gauge('dht_record_bytes', 'Their bytes.', () => peer.dht?.kept().recordBytes ?? 0)
  gauge('dht_providers', 'Entries of meeting points kept for the DHT.', () => peer.dht?.kept().providers ?? 0)
  const joins = new Counter({ name: 'llm_bootstrap_joins_total', help: 'Peers that have connected.', registers })
  peer.onConnected(() => joins.inc())
  collectDefaultMetrics({ register: registry })
  return registry
}
