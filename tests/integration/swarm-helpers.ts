import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { Serving } from '../../src/coverage/advert.ts'
import { createSwarmView, type SwarmView } from '../../src/coverage/announce.ts'
import type { PeerScores } from '../../src/coverage/peer-scores.ts'
import type { SwarmPeer } from '../../src/coverage/swarm-peers.ts'
import type { Identity } from '../../src/p2p/identity.ts'
import type { PeerNode } from '../../src/p2p/peer-node.ts'
import { type Cleanup, startPeer, type TestPeer, temporaryFolder } from './p2p-helpers.ts'

export const modelId = new Uint8Array(32).fill(9)
const numericsClass = new Uint8Array(32).fill(2)

export function serve(start: number, end: number, change: Partial<Serving> = {}): Serving {
  const layerDigests = new Uint8Array(4 * (end - start)).fill(start)
  const span = { start, end }
  const figures = { decodeMs: 1, prefillMs: 0.1, freeKvTokens: 4_096 }
  return { modelId, span, recipe: 'i8/1', numericsClass, state: 'online', ...figures, layerDigests, ...change }
}

export interface SwarmNode extends TestPeer {
  readonly swarm: SwarmView
}

export interface SwarmNodeOptions {
  readonly network?: string
  readonly bootstrap?: readonly string[]
  readonly identityFolder?: string
  readonly folder?: string
  /** Where the peers that it knows are kept. */
  readonly peersFolder?: string
  readonly dht?: boolean
  readonly serving?: readonly Serving[]
  readonly tickMs?: number
  /** Whom it connects to of itself. */
  readonly mayMeet?: (peer: SwarmPeer) => boolean
  readonly scores?: PeerScores
  /** Registers more, or other, handlers before the node starts. */
  readonly prepare?: (node: PeerNode, identity: Identity) => Promise<void>
}

/** A whole node without layers: it says what it serves as if it did. */
export async function startSwarmNode(cleanup: Cleanup, options: SwarmNodeOptions = {}): Promise<SwarmNode> {
  const {
    network = 'test',
    bootstrap = [],
    identityFolder,
    folder,
    peersFolder,
    serving,
    dht = false,
    tickMs,
    mayMeet,
  } = options
  const heard = options.scores === undefined ? {} : { scores: options.scores }
  let swarm: SwarmView | undefined
  const peerFolder = identityFolder ?? (await temporaryFolder(cleanup))
  const known = peersFolder === undefined ? {} : { folder: peersFolder }
  const peer = await startPeer(
    cleanup,
    { network, bootstrap, identityFolder: peerFolder, dht, ...known },
    async (node, identity) => {
      await options.prepare?.(node, identity)
      const deps = { peer: node, identity, clock: systemClock, logger: silentLogger, ...heard }
      swarm = await createSwarmView({ network, version: '0.0.0', folder, tickMs, mayMeet }, deps)
    },
  )
  if (swarm === undefined) throw new Error('no view')
  const view = swarm
  cleanup.add(() => view.stop())
  await view.start()
  if (serving !== undefined) await view.publish(serving)
  return { ...peer, swarm: view }
}

/** Waits for changes of a view until `check` holds; how long that took, ms. */
export async function until(view: SwarmView, check: () => boolean, withinMs: number): Promise<number> {
  const startMs = performance.now()
  const signal = AbortSignal.timeout(withinMs)
  while (!check()) {
    if (signal.aborted) throw new Error(`not true within ${withinMs} ms: ${check.toString()}`)
    await view.nextChange(signal)
  }
  return performance.now() - startMs
}
