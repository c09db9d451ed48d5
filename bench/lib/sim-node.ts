/** One simulated node: the code of src/coverage on virtual time and simulated links; honest, or a liar. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { toHex, utf8 } from '../../src/base/bytes.ts'
import { LlmNodeError } from '../../src/base/errors.ts'
import { silentLogger } from '../../src/base/logger.ts'
import type { Span } from '../../src/base/span.ts'
import { type Advert, advertIdOf, type Serving, verifyAdvert } from '../../src/coverage/advert.ts'
import { createSwarmCore, type SwarmCore } from '../../src/coverage/core.ts'
import { EVERYBODY } from '../../src/coverage/crowd.ts'
import { ADVERTS_PROTOCOL } from '../../src/coverage/gossip.ts'
import { decodeRequest, encodeAnswer, encodeRequest, type GossipItem } from '../../src/coverage/gossip-messages.ts'
import type { StoredContact } from '../../src/p2p/contact-book.ts'
import { networkTag } from '../../src/p2p/network.ts'
import { peerIdFromBytes } from '../../src/p2p/peer-id-bytes.ts'
import { createSequenceCounter } from '../../src/p2p/sequence.ts'
import type { SimClock } from './sim-clock.ts'
import type { SimLink, SimNetwork } from './sim-network.ts'

const NETWORK = 'sim'
export const MODEL_ID = new Uint8Array(32).fill(7)
export const RECIPE = 'q8/1'
/** A check of a signature, of a heartbeat: ms of a node's own time (measured on a small machine). */
const CHECK_MS = 1.5
const HEARTBEAT_CHECK_MS = 0.05
/** With three addresses. */
const CONTACT_BYTES = 280
const LIE_MS = 30_000

/** `mute` takes everything and tells nothing; `forger` also tells what is not true, and fails what it is asked for. */
export type Honesty = 'honest' | 'mute' | 'forger'

export interface SimNode {
  readonly peerId: string
  readonly addressKey: Uint8Array
  readonly address: string
  readonly honesty: Honesty
  readonly link: SimLink
  readonly core: SwarmCore
  readonly joinedMs: number
  publish(freeKvTokens: number): Promise<void>
  /** Has known these for long. */
  meet(others: readonly SimNode[]): void
  /** With a farewell, or without. */
  stop(farewell: boolean): Promise<void>
}

export interface SimNodeOptions {
  readonly span: Span
  readonly isBehindNat: boolean
  readonly honesty: Honesty
  /** Ms that its wall clock is wrong. */
  readonly clockErrorMs?: number
}

export interface SimWorld {
  readonly clock: SimClock
  readonly network: SimNetwork
  /** In [0, 1). */
  readonly random: () => number
  /** Contact records that were really signed, by hex key. */
  readonly contacts: Map<string, StoredContact>
  /** Every advert is really checked, but once for all nodes; each of them pays for it in virtual time. */
  readonly adverts: Map<string, Advert>
}

export async function createSimNode(options: SimNodeOptions, world: SimWorld): Promise<SimNode> {
  const { clock, network, random } = world
  const keys = newKeys()
  const peerId = peerIdFromBytes(Uint8Array.from([0, 0x24, 8, 1, 0x12, 0x20, ...newKeys().publicKey]))
  const link = network.add({ peerId, isBehindNat: options.isBehindNat })
  // One core: what is checked makes everything else wait.
  let busyMs = 0
  const work = (ms: number) => {
    busyMs = Math.max(busyMs, clock.monotonicMs()) + ms
  }
  const verify = (bytes: Uint8Array, { network: name }: { network: string }): Advert => {
    work(CHECK_MS)
    const id = toHex(advertIdOf(bytes))
    const known = world.adverts.get(id)
    if (known !== undefined) return known
    const advert = verifyAdvert(bytes, { network: name })
    world.adverts.set(id, advert)
    return advert
  }
  const book = createSimBook(keys.publicKey, peerId, world, () => work(CHECK_MS))
  const core = await createSwarmCore(
    { network: NETWORK, version: '1' },
    {
      peer: options.honesty === 'mute' ? muted(link, keys.publicKey) : link.node,
      identity: { addressKey: keys.publicKey, peerId, sign: (message) => sign(null, message, keys.secret) },
      book,
      sequence: await createSequenceCounter(undefined),
      clock: { monotonicMs: () => clock.monotonicMs(), nowMs: () => clock.nowMs() + (options.clockErrorMs ?? 0) },
      timers: { after: (ms, run) => clock.after(Math.max(ms, busyMs - clock.monotonicMs()), run) },
      random,
      logger: silentLogger,
      verify,
      onChange: () => work(HEARTBEAT_CHECK_MS),
    },
  )
  link.onConnected = (other) => core.keeper.connected(other)
  link.onDisconnected = (other) => core.keeper.disconnected(other)
  core.keeper.start()
  if (options.honesty === 'forger') startLying(core, link, world)
  const serving = (freeKvTokens: number): Serving[] => [servingOf(options.span, freeKvTokens)]
  return {
    ...{ peerId, addressKey: keys.publicKey, address: toHex(keys.publicKey), honesty: options.honesty, link, core },
    joinedMs: clock.monotonicMs(),
    publish: (freeKvTokens) =>
      core.own.publish({ serving: serving(freeKvTokens), relay: true, reachability: 'unknown' }),
    meet(others) {
      introduce(core, book, others, world)
      // That was long ago.
      busyMs = clock.monotonicMs()
    },
    async stop(farewell) {
      core.keeper.stop()
      if (farewell) {
        await core.own.end()
        void core.gossip.flush()
      }
      core.gossip.stop()
      network.remove(peerId, !farewell && random() < 0.3)
    },
  }
}

/** Adverts and signs of life as they are now, and the contact records of those whom the node keeps. */
function introduce(
  { sources: { table } }: SwarmCore,
  book: ReturnType<typeof createSimBook>,
  others: readonly SimNode[],
  { clock, contacts }: SimWorld,
): void {
  const nowMs = clock.monotonicMs()
  for (const other of others) {
    const entry = other.core.sources.table.get(other.addressKey)
    if (entry === undefined) continue
    const ageMs = nowMs - entry.aliveMs
    table.addAdvert(entry.bytes, ageMs, nowMs)
    if (entry.heartbeat !== undefined) table.addHeartbeat(entry.heartbeat, ageMs, nowMs)
  }
  table.expire(nowMs)
  for (const { advert } of table.live(nowMs)) {
    const contact = contacts.get(toHex(advert.addressKey))
    if (contact !== undefined) book.accept(contact.bytes)
  }
}

function servingOf(span: Span, freeKvTokens: number): Serving {
  const layerDigests = new Uint8Array(4 * (span.end - span.start)).fill(1)
  const figures = { decodeMs: 1, prefillMs: 0.1, freeKvTokens }
  const numericsClass = new Uint8Array(32).fill(3)
  return { modelId: MODEL_ID, span, recipe: RECIPE, numericsClass, state: 'online', ...figures, layerDigests }
}

interface Keys {
  readonly publicKey: Uint8Array
  readonly secret: KeyObject
}

function newKeys(): Keys {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const { x } = publicKey.export({ format: 'jwk' })
  return { publicKey: Uint8Array.from(Buffer.from(x ?? '', 'base64url')), secret: privateKey }
}

function createSimBook(ownKey: Uint8Array, peerId: string, world: SimWorld, check: () => void) {
  const held = new Map<string, StoredContact>()
  const bytes = new Uint8Array(CONTACT_BYTES)
  bytes.set(ownKey, 2)
  const now = world.clock.nowMs()
  const own: StoredContact = {
    bytes,
    record: {
      ...{ flags: 0, addressKey: ownKey, sequence: now, issuedMs: now, expiresMs: now + 10_800_000, peerId },
      ...{ onionKey: ownKey, onionKeyEndsMs: now, addrs: ['/ip4/203.0.113.1/tcp/1'], familyKeys: [] },
    },
  }
  world.contacts.set(toHex(ownKey), own)
  return {
    own: () => own,
    get: (key: Uint8Array) => held.get(toHex(key)),
    accept(given: Uint8Array) {
      const key = toHex(given.subarray(2, 34))
      if (held.has(key)) return 'same' as const
      check()
      const signed = world.contacts.get(key)
      if (signed === undefined) throw new LlmNodeError('BAD_RECORD', 'The contact record is forged.')
      held.set(key, signed)
      return 'new' as const
    },
    onPublished() {},
  }
}

const tag = networkTag(NETWORK)
const NOTHING = encodeAnswer({ wish: true, reach: EVERYBODY, items: [], wants: [], lacks: [] })

/** Answers nothing, and passes on nothing but what concerns itself. */
function muted(link: SimLink, ownKey: Uint8Array): SimLink['node'] {
  const { node } = link
  const isOwn = ({ bytes }: GossipItem) => [1, 2].some((at) => toHex(bytes.subarray(at, at + 32)) === toHex(ownKey))
  return {
    ...node,
    handle: (protocol, options) => node.handle(protocol, options, () => NOTHING),
    async request(target, protocol, body, options) {
      const request = decodeRequest(body, tag)
      if (request.op === 'digest') return NOTHING
      const items = request.items.filter(isOwn)
      if (items.length === 0) return NOTHING
      return node.request(target, protocol, encodeRequest(tag, { ...request, items, lines: [] }), options)
    },
  }
}

/** Forged adverts, and old signs of life said to be fresh. */
function startLying({ gossip, sources }: SwarmCore, link: SimLink, { clock, random }: SimWorld): void {
  const kept: GossipItem[] = []
  const lie = () => {
    if (!link.alive) return
    for (const { bytes, heartbeat } of sources.table.all().slice(0, 20)) {
      if (kept.length < 200) kept.push({ kind: 'advert', ageMs: 0, bytes })
      if (kept.length < 200 && heartbeat !== undefined) kept.push({ kind: 'heartbeat', ageMs: 0, bytes: heartbeat })
    }
    const forged = Array.from({ length: 3 }, (): GossipItem => {
      const bytes = utf8('x'.repeat(400)).map(() => Math.floor(256 * random()))
      return { kind: 'advert', ageMs: 0, bytes }
    })
    const items = [...kept.slice(-20), ...forged]
    const body = encodeRequest(tag, { op: 'news', wish: true, items, lines: [] })
    for (const peerId of gossip.neighbours) {
      link.node.request({ peerId, addrs: [] }, ADVERTS_PROTOCOL, body, { maxResponseBytes: 1_048_576 }).catch(() => {})
    }
    clock.after(LIE_MS, lie)
  }
  clock.after(LIE_MS * random(), lie)
}
