import { createHash } from 'node:crypto'
import { createByteWriter, toHex } from '../base/bytes.ts'
import { coverageLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { shuffle } from '../base/random.ts'
import { type Dht, untilTaken } from '../p2p/dht.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { Serving } from './advert.ts'

/** Layers that share one meeting point (swarm.md §2). */
const GROUP_LAYERS = 4

/** Where nodes of one model meet in the DHT: one point for each (model, group of 4 layers). */
export interface Rendezvous {
  /** This node can be found at the points of what it serves, and no longer at others. */
  announce(serving: readonly Serving[]): void
  /**
   * Connects to some who serve layers of a model, so that their adverts come. `nLayers` 0: unknown. With how many it is
   * connected; never rejects.
   */
  seek(modelId: Uint8Array, nLayers: number, options: { signal: AbortSignal }): Promise<number>
  stop(): void
}

interface RendezvousDeps {
  /** Undefined: there is no DHT, and nothing happens. */
  readonly dht: Dht | undefined
  readonly peer: Pick<PeerNode, 'connect' | 'isConnected'>
  readonly logger: Logger
}

export function createRendezvous({ dht, peer, logger }: RendezvousDeps): Rendezvous {
  const stopping = new AbortController()
  const announced = new Map<string, AbortController>()
  const begin = (point: Uint8Array): AbortController => {
    const ending = new AbortController()
    const signal = AbortSignal.any([stopping.signal, ending.signal])
    if (dht !== undefined) void untilTaken(() => dht.provide(point, { signal }), signal)
    return ending
  }
  return {
    announce(serving) {
      if (dht === undefined || stopping.signal.aborted) return
      const points = new Map(serving.flatMap(pointsOf).map((point) => [toHex(point), point]))
      for (const [name, ending] of announced) {
        if (points.has(name)) continue
        ending.abort()
        announced.delete(name)
        void dht.leave(Buffer.from(name, 'hex'))
      }
      for (const [name, point] of points) if (!announced.has(name)) announced.set(name, begin(point))
    },
    async seek(modelId, nLayers, { signal }) {
      if (dht === undefined) return 0
      const met = new Set<string>()
      // One group after the other, in a random order: newcomers spread over the swarm, and stop when they know enough.
      const nGroups = Math.max(1, Math.ceil(nLayers / GROUP_LAYERS))
      for (const group of shuffle([...Array(nGroups).keys()], Math.random)) {
        if (signal.aborted || stopping.signal.aborted || met.size >= coverageLimits.meshPeers) break
        const members = await dht.members(meetingPoint(modelId, group), { signal })
        const chosen = members.slice(0, coverageLimits.meshPeers - met.size)
        await Promise.allSettled(chosen.map((target) => peer.connect(target, { signal })))
        for (const { peerId } of chosen) if (peer.isConnected(peerId)) met.add(peerId)
      }
      logger.debug({ met: met.size }, 'looked for peers of a model in the DHT')
      return met.size
    },
    stop: () => stopping.abort(),
  }
}

/** 32 bytes. */
function meetingPoint(modelId: Uint8Array, group: number): Uint8Array {
  const place = createByteWriter().bytes(modelId).u32(group).finish()
  return createHash('sha256').update('llm rendezvous v1').update(place).digest()
}

function pointsOf({ modelId, span }: Serving): Uint8Array[] {
  if (span.end <= span.start) return []
  const first = Math.floor(span.start / GROUP_LAYERS)
  const last = Math.floor((span.end - 1) / GROUP_LAYERS)
  return Array.from({ length: last - first + 1 }, (_, i) => meetingPoint(modelId, first + i))
}
