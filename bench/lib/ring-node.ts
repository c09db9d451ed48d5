import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { ComputeService } from '../../src/onion/ports.ts'
import { createOnionService, type OnionService } from '../../src/onion/service.ts'
import { type Identity, loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createPeerNode, type PeerNode } from '../../src/p2p/peer-node.ts'

/** As wide as Qwen3-0.6B: a row is 4 KiB. */
export const HIDDEN = 1_024
export const MAX_CONTEXT = 1 << 20

/** Layers that give back what they get: what is left is what the way costs. */
const identityLayers: ComputeService = {
  offer: ({ maxContext }) => ({
    numericsClass: new Uint8Array(32),
    maxContext,
    idleS: 600,
    lifeS: 3_600,
    queueBytes: 4 * 1_048_576,
  }),
  open: ({ maxContext }) => {
    let length = 0
    return {
      hiddenSize: HIDDEN,
      maxContext,
      get length() {
        return length
      },
      async forward(pos, hidden) {
        length = pos + hidden.length / HIDDEN
        return hidden
      },
      close() {},
    }
  },
}

export interface RingNode {
  readonly identity: Identity
  readonly peer: PeerNode
  /** Undefined without the onion layer. */
  readonly onion: OnionService | undefined
  stop(): Promise<void>
}

/** On TCP and loopback, with the rate of relays lifted: the bench is about the layer, not about its limits. */
export async function createRingNode(
  folder: string,
  options: { onion: boolean; computes: boolean },
): Promise<RingNode> {
  const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
  const peer = await createPeerNode(
    { network: 'bench', version: '0', listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false, transports: ['tcp'] },
    { identity, logger: silentLogger },
  )
  const unlimited = { perS: 1e12, burst: 1e12 }
  const limits = { relayBytesPerS: 1e12, relayBurstBytes: 1e12, relayTotal: unlimited }
  const onion = options.onion
    ? createOnionService(
        { identity, network: 'bench', relay: () => true, lan: true, published: () => true, limits },
        {
          transport: peer,
          compute: options.computes ? identityLayers : null,
          clock: systemClock,
          logger: silentLogger,
        },
      )
    : undefined
  await peer.start()
  return {
    identity,
    peer,
    onion,
    async stop() {
      await onion?.stop()
      await peer.stop()
    },
  }
}
