import { createHash } from 'node:crypto'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { ed25519 } from '@noble/curves/ed25519.js'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { type Logger, silentLogger } from '../../../src/base/logger.ts'
import { createSecret } from '../../../src/base/secret.ts'
import type { Span } from '../../../src/base/span.ts'
import { type CryptoBackend, nodeCrypto } from '../../../src/onion/crypto.ts'
import type { AnswerService, ComputeService, ComputeSession } from '../../../src/onion/ports.ts'
import type { HopTarget, RingOptions } from '../../../src/onion/ring.ts'
import { createOnionService, type OnionService, type OnionStats } from '../../../src/onion/service.ts'
import type { OnionLimits } from '../../../src/onion/types.ts'
import { createMemoryNetwork, type Deliver, type MemoryNetwork, type MemoryNode } from './memory-network.ts'
import { createVirtualClock, type VirtualClock } from './virtual-clock.ts'

export const HIDDEN = 16
const NUMERICS_CLASS = new Uint8Array(32).fill(5)

/** Layers with a known effect: each adds its number; position p also adds what positions before p brought in. */
export interface FakeCompute extends ComputeService {
  readonly sessions: Set<{ span: Span; predecessor: string; length: number }>
  /** Rows are held back until this resolves. */
  gate: Promise<void>
  refuse: 'KV_FULL' | 'CONTEXT_TOO_LONG' | 'SPAN' | undefined
  offerAnswer: 'busy' | null | undefined
  /** Replaces the computed rows. */
  spoil: ((rows: Float32Array) => Float32Array) | undefined
  steps: number
}

function createFakeCompute(queueBytes = 4 * 1_048_576): FakeCompute {
  const sessions: FakeCompute['sessions'] = new Set()
  const compute: FakeCompute = {
    sessions,
    gate: Promise.resolve(),
    refuse: undefined,
    offerAnswer: undefined,
    spoil: undefined,
    steps: 0,
    offer(request) {
      if (compute.offerAnswer !== undefined) return compute.offerAnswer
      const { maxContext } = request
      return { numericsClass: NUMERICS_CLASS, maxContext, idleS: 600, lifeS: 3_600, queueBytes }
    },
    open({ span, maxContext, predecessor }) {
      if (compute.refuse !== undefined) throw new LlmNodeError(compute.refuse, 'Refused by the test.')
      const info = { span, predecessor, length: 0 }
      sessions.add(info)
      const state = createFakeLayers(span)
      const session: ComputeSession = {
        hiddenSize: HIDDEN,
        maxContext,
        get length() {
          return info.length
        },
        async forward(pos, hidden) {
          const rows = state(pos, hidden)
          info.length = pos + hidden.length / HIDDEN
          compute.steps++
          await compute.gate
          return compute.spoil?.(rows) ?? rows
        },
        close() {
          sessions.delete(info)
        },
      }
      return session
    },
  }
  return compute
}

/** The same layers in one process: what a ring must agree with, bit by bit. */
export function createFakeLayers(span: Span): (pos: number, hidden: Float32Array) => Float32Array {
  const caches: number[][] = Array.from({ length: span.end - span.start }, () => [])
  return (pos, hidden) => {
    let rows = hidden
    for (const [index, cache] of caches.entries()) {
      cache.length = pos
      const input = rows
      rows = Float32Array.from(input)
      for (let row = 0; row * HIDDEN < input.length; row++) {
        cache.push(input[row * HIDDEN] ?? 0)
        const history = cache.reduce((sum, value) => sum + value, 0) / 64
        for (let i = 0; i < HIDDEN; i++) {
          rows[row * HIDDEN + i] = (input[row * HIDDEN + i] ?? 0) + span.start + index + 1 + history
        }
      }
    }
    return rows
  }
}

export interface SwarmNode {
  readonly peerId: string
  readonly transport: MemoryNode
  readonly compute: FakeCompute
  readonly service: OnionService
  readonly addressKey: Uint8Array
  readonly onionKey: Uint8Array
  /** Every plaintext that this node's circuits opened, and every (key, nonce) they sealed under, as hex. */
  readonly opened: Uint8Array[]
  readonly sealed: string[]
  /** Every key that its circuits ever used: views of where they lie. */
  readonly keys: Uint8Array[]
  /** Who was sent away, as the owner hears it. */
  readonly sentAway: string[]
}

export interface Swarm {
  readonly network: MemoryNetwork
  readonly clock: VirtualClock
  readonly entry: SwarmNode
  readonly hops: readonly SwarmNode[]
  target(node: SwarmNode, role: HopTarget['role'], span?: Span): HopTarget
  /** "c" a compute hop of two layers, "r" a relay, "a" a node that answers: "rccr" is a guarded ring over the first four nodes. */
  options(shape: string, change?: Partial<RingOptions>): RingOptions
  /** Peer ids of everybody, entry first. */
  readonly peers: readonly string[]
}

export interface SwarmSettings {
  readonly limits?: Partial<OnionLimits>
  readonly published?: boolean
  readonly local?: boolean
  readonly relay?: boolean
  readonly queueBytes?: number
  /** Note what is opened and sealed. */
  readonly watch?: boolean
  /** A hop that lies under its own keys: may change what node `index` is about to seal. */
  readonly forge?: (index: number, plaintext: Uint8Array, aad: Uint8Array) => void
  readonly deliver?: Deliver
  readonly logger?: Logger
  /** Every node answers so. */
  readonly answers?: AnswerService
  /** PeerIds of contacts of every node. */
  readonly contacts?: readonly string[]
}

export function createSwarm(nHops: number, settings: SwarmSettings = {}): Swarm {
  const network = createMemoryNetwork(settings.deliver)
  const clock = createVirtualClock()
  const nodes = Array.from({ length: nHops + 1 }, (_, index) => createSwarmNode(index, network, clock, settings))
  const [entry, ...hops] = nodes
  if (entry === undefined) throw new Error('no entry')
  const target = (node: SwarmNode, role: HopTarget['role'], span?: Span): HopTarget => ({
    peerId: node.peerId,
    addrs: node.transport.self.addrs(),
    addressKey: node.addressKey,
    onionKey: node.onionKey,
    role,
    ...(span === undefined ? {} : { span }),
  })
  return {
    network,
    clock,
    entry,
    hops,
    target,
    peers: nodes.map((node) => node.peerId),
    options(shape, change = {}) {
      let start = 0
      const targets = [...shape].map((kind, index) => {
        const node = hops[index]
        if (node === undefined) throw new Error('not enough nodes')
        if (kind === 'r') return target(node, 'relay')
        if (kind === 'a') return target(node, 'answer')
        start += 2
        return target(node, 'compute', { start: start - 2, end: start })
      })
      const base = { modelId: new Uint8Array(32).fill(7), hiddenSize: HIDDEN, maxContext: 4_096 }
      return { hops: targets, ...base, numericsClass: new Uint8Array(32), ...change }
    },
  }
}

interface FixedIdentity {
  readonly peerId: string
  readonly addressKey: Uint8Array
  readonly onionKey: Uint8Array
  seed(what: string): Buffer
}

const identities = new Map<number, FixedIdentity>()

/** Node n has the same keys in every swarm. */
function identityOf(index: number): FixedIdentity {
  const known = identities.get(index)
  if (known !== undefined) return known
  const seed = (what: string) => createHash('sha256').update(`${what} ${index}`).digest()
  const peerId = peerIdFromPublicKey(publicKeyFromRaw(ed25519.getPublicKey(seed('transport')))).toString()
  const addressKey = ed25519.getPublicKey(seed('address'))
  const onionKey = nodeCrypto.x25519PublicKey(seed('onion'))
  const identity = { peerId, addressKey, onionKey, seed }
  identities.set(index, identity)
  return identity
}

function createSwarmNode(
  index: number,
  network: MemoryNetwork,
  clock: VirtualClock,
  settings: SwarmSettings,
): SwarmNode {
  const { peerId, addressKey, onionKey, seed } = identityOf(index)
  const onionKeys = [{ publicKey: onionKey, privateKey: createSecret(seed('onion')) }] as const
  const local = settings.local ?? true
  const addrs = local ? undefined : [`/ip4/11.${index}.0.1/tcp/4001`]
  const transport = network.node(peerId, { local, ...(addrs === undefined ? {} : { addrs }) })
  const compute = createFakeCompute(settings.queueBytes)
  const opened: Uint8Array[] = []
  const sealed: string[] = []
  const keys: Uint8Array[] = []
  const crypto = settings.forge === undefined ? nodeCrypto : forgingCrypto(index, settings.forge)
  const sentAway: string[] = []
  const service = createOnionService(
    {
      identity: { addressKey, onionKeys: () => onionKeys },
      network: 'test',
      relay: () => settings.relay ?? true,
      lan: local,
      published: () => settings.published ?? false,
      ...(settings.limits === undefined ? {} : { limits: settings.limits }),
    },
    {
      transport,
      compute,
      onSentAway: (peer) => sentAway.push(peer),
      isContact: (peer) => settings.contacts?.includes(peer) ?? false,
      ...(settings.answers === undefined ? {} : { answers: settings.answers }),
      clock,
      timers: clock,
      logger: settings.logger ?? silentLogger,
      crypto: settings.watch === true ? watchCrypto(crypto, { opened, sealed, keys }) : crypto,
    },
  )
  return { peerId, transport, compute, service, addressKey, onionKey, opened, sealed, keys, sentAway }
}

function watchCrypto(
  crypto: CryptoBackend,
  { opened, sealed, keys }: Pick<SwarmNode, 'opened' | 'sealed' | 'keys'>,
): CryptoBackend {
  return {
    ...crypto,
    aead(key) {
      keys.push(key)
      const text = Buffer.from(key).toString('hex')
      const aead = crypto.aead(key)
      return {
        seal(nonce, aad, plaintext, out, offset) {
          sealed.push(text + Buffer.from(nonce).toString('hex'))
          aead.seal(nonce, aad, plaintext, out, offset)
        },
        open(nonce, aad, bytes) {
          const plaintext = aead.open(nonce, aad, bytes)
          opened.push(Uint8Array.from(plaintext))
          return plaintext
        },
      }
    },
  }
}

function forgingCrypto(index: number, forge: NonNullable<SwarmSettings['forge']>): CryptoBackend {
  return {
    ...nodeCrypto,
    aead(key) {
      const aead = nodeCrypto.aead(key)
      return {
        ...aead,
        seal(nonce, aad, plaintext, out, offset) {
          const changed = Uint8Array.from(plaintext)
          forge(index, changed, aad)
          aead.seal(nonce, aad, changed, out, offset)
        },
      }
    },
  }
}

/** Rows that differ everywhere. */
export function rowsFrom(start: number, nRows: number): Float32Array {
  return new Float32Array(nRows * HIDDEN).map((_, i) => Math.sin(start * HIDDEN + i))
}

/** What a service that holds nothing tells. */
export const idleStats: OnionStats = {
  relayCircuits: 0,
  computeCircuits: 0,
  answerCircuits: 0,
  halfOpenCircuits: 0,
  openRings: 0,
  readyRings: 0,
  queuedBytes: 0,
}
