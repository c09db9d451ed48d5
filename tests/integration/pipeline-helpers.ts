import { toHex } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { LlmNodeError } from '../../src/base/errors.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { Span } from '../../src/base/span.ts'
import type { LayerHolder } from '../../src/coverage/map.ts'
import type { ComputeService } from '../../src/onion/ports.ts'
import type { Ring } from '../../src/onion/ring.ts'
import { createOnionService, type OnionService } from '../../src/onion/service.ts'
import type { OnionDeps, OnionLimits } from '../../src/onion/types.ts'
import type { PeerNode } from '../../src/p2p/peer-node.ts'
import {
  type AskAnswer,
  type AskableModel,
  type AskDeps,
  type AskOptions,
  type AskProgress,
  ask,
} from '../../src/pipeline/ask.ts'
import type { AuditBook } from '../../src/pipeline/audit-book.ts'
import type { ChatProfiles } from '../../src/pipeline/chat-profiles.ts'
import type { HopContact, Privacy } from '../../src/pipeline/hop-contacts.ts'
import { createHopServer, type HopServer } from '../../src/pipeline/hop-server.ts'
import type { IdleChains } from '../../src/pipeline/idle-chains.ts'
import { createTextModel } from '../../src/pipeline/text-model.ts'
import type { SpanRunner } from '../../src/shard/runner.ts'
import { openEngine, openRunner, type TestEngine } from '../helpers/engine.ts'
import { demoTextModel } from '../helpers/text-model.ts'
import { type Cleanup, startPeer, type TestPeer } from './p2p-helpers.ts'

const MODEL = 'models/demo-qwen3'
const modelId = new Uint8Array(32).fill(7)
const numericsClass = new Uint8Array(32).fill(2)

/** The demo model: its ends, and runners over parts of it that several nodes may share. */
export interface TestModel {
  readonly engine: TestEngine
  readonly askable: AskableModel
  runner(span: Span): ReturnType<typeof openRunner>
}

export async function openTestModel(cleanup: Cleanup): Promise<TestModel> {
  const engine = await openEngine(MODEL, 'f32/1')
  cleanup.add(() => engine.close())
  const runners = new Map<string, ReturnType<typeof openRunner>>()
  return {
    engine,
    askable: {
      name: 'demo',
      modelId,
      spec: engine.model.spec,
      recipe: 'f32/1',
      numericsClass: toHex(numericsClass),
      runner: undefined,
      localDecodeMs: null,
      endsMs: null,
      ends: engine.ends,
      text: createTextModel(demoTextModel(MODEL)),
    },
    runner(span) {
      const key = `${span.start}-${span.end}`
      const known = runners.get(key)
      if (known !== undefined) return known
      const opened = openRunner(engine.model, { span })
      cleanup.add(async () => (await opened).close())
      runners.set(key, opened)
      return opened
    },
  }
}

/** A node that computes `span`. */
export interface ComputeNode extends TestPeer {
  readonly holder: LayerHolder
  readonly contact: HopContact
  readonly hops: HopServer
  readonly onion: OnionService
}

export async function startComputeNode(
  cleanup: Cleanup,
  model: TestModel,
  span: Span,
  options: {
    decodeMs?: number
    numericsClass?: Uint8Array
    runner?: SpanRunner
    wrap?: (hops: HopServer) => ComputeService
    around?: WrapOnion
  } = {},
): Promise<ComputeNode> {
  const hops = createHopServer()
  hops.serve({
    modelId,
    numericsClass: options.numericsClass ?? numericsClass,
    runner: options.runner ?? (await model.runner(span)),
  })
  const { around } = options
  const peer = await startOnion(cleanup, options.wrap?.(hops) ?? hops, around === undefined ? {} : { around })
  const [key] = peer.identity.onionKeys(Date.now())
  return {
    ...peer,
    hops,
    contact: { addressKey: peer.identity.addressKey, onionKey: key.publicKey, ...peer.target },
    holder: {
      address: peer.identity.address,
      span,
      state: 'online',
      numericsClass: toHex(numericsClass),
      decodeMs: options.decodeMs ?? 1,
      freeKvTokens: 100_000,
      relayed: false,
      rttMs: 1,
      neighbourRttMs: new Map(),
    },
  }
}

/** Puts something around what the circuits of a node are given. */
export type WrapOnion = (deps: OnionDeps) => OnionDeps

async function startOnion(
  cleanup: Cleanup,
  compute: ComputeService | null,
  { limits = {}, around = (deps) => deps }: { limits?: Partial<OnionLimits>; around?: WrapOnion } = {},
) {
  let onion: OnionService | undefined
  const peer = await startPeer(cleanup, {}, async (node, identity) => {
    onion = createOnionService(
      { identity, network: 'test', relay: () => true, lan: true, published: () => true, limits },
      around({ transport: node, compute, clock: systemClock, logger: silentLogger }),
    )
  })
  if (onion === undefined) throw new Error('no circuits')
  const service = onion
  cleanup.add(() => service.stop())
  return { ...peer, onion: service }
}

/** One frame that the entry is about to send: the how-manieth ring and frame of it, and its rows. */
export interface SentFrame {
  readonly ring: number
  readonly frame: number
  readonly pos: number
  readonly rows: number
}

export interface TestEntry {
  readonly onion: OnionService
  readonly node: PeerNode
  readonly deps: AskDeps
  readonly frames: readonly SentFrame[]
  ask(options?: Partial<AskOptions> & { onSuspended?: () => void }): Promise<AskedAnswer>
}

export interface AskedAnswer {
  readonly events: readonly AskProgress[]
  readonly result: AskAnswer | undefined
  readonly error: LlmNodeError | undefined
}

/** Asks over `nodes`; `before` runs, and is waited for, before each frame is sent. */
export async function startEntry(
  cleanup: Cleanup,
  model: TestModel,
  nodes: readonly ComputeNode[],
  options: {
    before?: (frame: SentFrame) => unknown
    limits?: Partial<OnionLimits>
    around?: WrapOnion
    idle?: IdleChains
    privacy?: Privacy
    chats?: ChatProfiles
    audits?: AuditBook
    /** Build circuits for the next chat ahead. */
    ahead?: boolean
    /** Nodes that are known and hold no layers for this entry. */
    relays?: readonly ComputeNode[]
  } = {},
): Promise<TestEntry> {
  const { onion, node } = await startOnion(cleanup, null, options)
  const frames: SentFrame[] = []
  let rings = 0
  const { hiddenSize } = model.engine.model.spec
  const watched = (ring: Ring): Ring => {
    const number = rings++
    let sent = 0
    // In order also when `before` takes its time.
    let turn: Promise<unknown> = Promise.resolve()
    const forward: Ring['forward'] = (frame) => {
      const about = { ring: number, frame: sent++, pos: frame.pos, rows: frame.hidden.length / hiddenSize }
      frames.push(about)
      turn = turn.then(() => options.before?.(about))
      return turn.then(() => ring.forward(frame))
    }
    return new Proxy(ring, {
      get: (_, name) => {
        if (name === 'forward') return forward
        const value = Reflect.get(ring, name, ring) as unknown
        return typeof value === 'function' ? value.bind(ring) : value
      },
    })
  }
  const deps: AskDeps = {
    ...(options.idle === undefined ? {} : { idle: options.idle }),
    ...(options.privacy === undefined ? {} : { privacy: options.privacy }),
    ...(options.chats === undefined ? {} : { chats: options.chats }),
    ...(options.audits === undefined ? {} : { audits: options.audits }),
    ...(options.ahead === true ? { prepareRing: (ringOptions) => onion.prepareRing(ringOptions) } : {}),
    random: () => 0,
    holders: () => nodes.map((node) => node.holder),
    async contact(address) {
      const node = [...nodes, ...(options.relays ?? [])].find(({ holder }) => holder.address === address)
      if (node === undefined) throw new LlmNodeError('PEER_UNREACHABLE', 'Nobody knows it.')
      return node.contact
    },
    openRing: async (ringOptions, run) => watched(await onion.openRing(ringOptions, run)),
  }
  return {
    onion,
    node,
    deps,
    frames,
    async ask({ onSuspended, ...wishes } = {}) {
      const events: AskProgress[] = []
      try {
        for await (const event of ask(model.askable, { ...defaults(), ...wishes }, deps)) {
          events.push(event)
          if (event.type === 'suspended') onSuspended?.()
        }
      } catch (error) {
        if (!(error instanceof LlmNodeError)) throw error
        return { events, result: undefined, error }
      }
      const done = events.findLast((event) => event.type === 'done')
      return { events, result: done?.type === 'done' ? done.result : undefined, error: undefined }
    },
  }
}

function defaults(): AskOptions {
  return {
    prompt: { messages: [{ role: 'user', content: 'one two three four '.repeat(85) }] },
    maxTokens: 40,
    sampling: { temperature: 0.2, seed: 11 },
    stop: [],
    ignoreEnd: true,
    solo: false,
    logitsDigest: true,
    signal: AbortSignal.timeout(50_000),
  }
}
