import { randomBytes } from 'node:crypto'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { afterEach, describe, expect, it } from 'vitest'
import { concatBytes, toHex } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { coverageLimits } from '../../src/base/limits.ts'
import { advertIdOf, encodeAdvert, encodeTombstone } from '../../src/coverage/advert.ts'
import { EVERYBODY } from '../../src/coverage/crowd.ts'
import { ADVERTS_PROTOCOL } from '../../src/coverage/gossip.ts'
import { decodeAnswer, encodeAnswer, encodeRequest, type GossipItem } from '../../src/coverage/gossip-messages.ts'
import { createChain, encodeHeartbeat } from '../../src/coverage/heartbeat.ts'
import { createPeerScores } from '../../src/coverage/peer-scores.ts'
import { RECORDS_PROTOCOL } from '../../src/p2p/contact-book.ts'
import { encodeContactRecord } from '../../src/p2p/contact-record.ts'
import { networkTag } from '../../src/p2p/network.ts'
import { createCleanup, eventually, startPeer, type TestPeer } from './p2p-helpers.ts'
import { type SwarmNode, serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)
const HOUR = 3_600_000
const tag = networkTag('test')
const nothing = { wish: true, reach: EVERYBODY, items: [], lacks: [] }
const news = (items: readonly GossipItem[]) => ({ op: 'news' as const, wish: true, items, lines: [] })

/** A node that speaks the protocols and keeps none of their rules. */
interface Villain extends TestPeer {
  /** Sends items; the answer's wants. */
  tell(...items: GossipItem[]): Promise<readonly string[]>
  /** Sends bytes as they are. */
  raw(body: Uint8Array): Promise<Uint8Array>
  advert(change?: AdvertChange): GossipItem & { beat: Uint8Array }
  contact(change?: ContactChange): GossipItem
}
interface Keys {
  readonly publicKey: Uint8Array
  readonly sign: (message: Uint8Array) => Uint8Array
}
interface AdvertChange {
  sequence?: number
  end?: number
  network?: string
  key?: Keys
  peerId?: string
}
interface ContactChange {
  sequence?: number
  issuedMs?: number
  expiresMs?: number
  network?: string
  addrs?: string[]
  key?: Keys
}

function newKeys(): Keys {
  const { secretKey, publicKey } = ed25519.keygen()
  return { publicKey, sign: (message) => ed25519.sign(message, secretKey) }
}

async function startVillain(victim: SwarmNode, answer: (body: Uint8Array) => Uint8Array): Promise<Villain> {
  const peer = await startPeer(cleanup, { bootstrap: victim.bootstrap }, (node) =>
    node.handle(ADVERTS_PROTOCOL, { maxRequestBytes: coverageLimits.messageBytes }, answer),
  )
  await eventually(() => peer.node.isConnected(victim.node.self.peerId), 3_000)
  const own: Keys = { publicKey: peer.identity.addressKey, sign: peer.identity.sign }
  const raw = (body: Uint8Array) =>
    peer.node.request(victim.target, ADVERTS_PROTOCOL, body, { signal, maxResponseBytes: 1_048_576 })
  return {
    ...peer,
    raw,
    tell: async (...items) => decodeAnswer(await raw(encodeRequest(tag, news(items)))).wants,
    advert({ sequence = Date.now(), end = 4, network = 'test', key = own, peerId = peer.node.self.peerId } = {}) {
      const chain = createChain({ addressKey: key.publicKey, sequence }, randomBytes(16))
      const bytes = encodeAdvert(
        {
          addressKey: key.publicKey,
          peerId,
          sequence,
          serving: [serve(0, end)],
          relay: false,
          reachability: 'unreachable',
          neighbours: [],
          version: 'villain',
          chainEnd: chain[0] ?? new Uint8Array(16),
        },
        { network, sign: key.sign },
      )
      const beat = encodeHeartbeat({ advertId: advertIdOf(bytes), index: 1, link: chain[1] ?? new Uint8Array(16) })
      return { kind: 'advert', ageMs: 0, bytes, beat }
    },
    contact({ key = own, network = 'test', ...change } = {}) {
      const nowMs = Date.now()
      const record = {
        flags: 0,
        addressKey: key.publicKey,
        sequence: nowMs,
        issuedMs: nowMs,
        expiresMs: nowMs + HOUR,
        onionKey: x25519.keygen().publicKey,
        onionKeyEndsMs: nowMs + 100 * HOUR,
        peerId: peer.node.self.peerId,
        addrs: ['/ip4/127.0.0.1/tcp/1'],
        familyKeys: [],
        ...change,
      }
      return { kind: 'contact', ageMs: 0, bytes: encodeContactRecord(record, { network, sign: key.sign }) }
    },
  }
}

const silent = () => encodeAnswer({ ...nothing, wants: [] })
const seen = (victim: SwarmNode, villain: Villain) =>
  victim.swarm.peers().find((peer) => peer.address === villain.identity.address)

describe('a hostile peer', () => {
  it('is heard when it keeps the rules', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const villain = await startVillain(victim, silent)
    await villain.tell(villain.advert(), villain.contact())
    expect(seen(victim, villain)).toMatchObject({ version: 'villain', addrs: ['/ip4/127.0.0.1/tcp/1'] })
  })

  it('cannot take an advert or a contact record back to an older one', async () => {
    const scores = createPeerScores(systemClock)
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)], scores })
    const villain = await startVillain(victim, silent)
    await villain.tell(villain.advert({ sequence: 20, end: 6 }), villain.contact({ sequence: 20 }))
    await villain.tell(villain.advert({ sequence: 19 }), villain.contact({ sequence: 19, addrs: [] }))
    expect(seen(victim, villain)?.serving[0]?.span.end).toBe(6)
    expect(seen(victim, villain)?.addrs).toHaveLength(1)
    // Two truths with one number: the first stays, the address is marked, and both are there as proof.
    const first = victim.swarm.book.get(villain.identity.addressKey)?.bytes
    const { bytes: second } = villain.contact({ sequence: 20, addrs: [] })
    await villain.tell({ kind: 'contact', ageMs: 0, bytes: second })
    expect(seen(victim, villain)?.addrs).toHaveLength(1)
    expect(scores.of([villain.identity.address])).toBeCloseTo(0.25)
    const proof = { sequence: 20, first, second, atMs: expect.any(Number) }
    expect(victim.swarm.book.contradictions).toEqual(new Map([[toHex(villain.identity.addressKey), proof]]))
  })

  it('cannot sell expired, too long valid, foreign or future contact records', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const villain = await startVillain(victim, silent)
    const nowMs = Date.now()
    await villain.tell(villain.advert())
    for (const bad of [
      villain.contact({ issuedMs: nowMs - 4 * HOUR, expiresMs: nowMs - HOUR }),
      villain.contact({ expiresMs: nowMs + 13 * HOUR }),
      villain.contact({ issuedMs: nowMs + HOUR, expiresMs: nowMs + 2 * HOUR }),
      villain.contact({ network: 'other' }),
    ]) {
      await villain.tell(bad)
      expect(seen(victim, villain)?.addrs).toEqual([])
    }
    expect(victim.swarm.book.get(villain.identity.addressKey)).toBeUndefined()
  })

  it('is listened to on although its clock is wrong', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const villain = await startVillain(victim, silent)
    await villain.tell(villain.advert())
    const issuedMs = Date.now() + 24 * HOUR
    const late = () => villain.contact({ issuedMs, expiresMs: issuedMs + HOUR })
    await villain.tell(...Array.from({ length: 2 * coverageLimits.badItems }, late))
    await villain.tell(villain.contact())
    expect(seen(victim, villain)?.addrs).toHaveLength(1)
  })

  it('cannot speak for others', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const other = await startSwarmNode(cleanup, { bootstrap: victim.bootstrap, serving: [serve(0, 4)] })
    const address = other.identity.address
    const peerOf = () => victim.swarm.peers().find((peer) => peer.address === address)
    await until(victim.swarm, () => (peerOf()?.addrs.length ?? 0) > 0, 3_000)
    const villain = await startVillain(victim, silent)
    const mask: Keys = { publicKey: other.identity.addressKey, sign: newKeys().sign }
    const sequence = Date.now() + 1_000
    const tombstone = encodeTombstone({ addressKey: mask.publicKey, sequence }, { network: 'test', sign: mask.sign })
    await villain.tell(villain.advert({ sequence, end: 99, key: mask }), villain.contact({ sequence, key: mask }))
    await villain.tell({ kind: 'tombstone', ageMs: 0, bytes: tombstone })
    expect(peerOf()?.serving[0]?.span).toEqual({ start: 0, end: 4 })
    expect(peerOf()?.addrs).toEqual(other.target.addrs)
    // Also not for the victim itself.
    const self: Keys = { publicKey: victim.identity.addressKey, sign: newKeys().sign }
    await villain.tell(villain.advert({ sequence, key: self }), {
      kind: 'tombstone',
      ageMs: 0,
      bytes: encodeTombstone({ addressKey: self.publicKey, sequence }, { network: 'test', sign: self.sign }),
    })
    expect(victim.swarm.peers().find((peer) => peer.self)?.serving[0]?.span).toEqual({ start: 4, end: 8 })
  })

  it('cannot keep a silent peer alive with old signs of life, nor forge new ones', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const villain = await startVillain(victim, silent)
    // Of a peer that is not connected itself: a connection is a sign of life, too.
    const { peerId } = (await startPeer(cleanup)).node.self
    const advert = villain.advert({ peerId })
    const ghost = villain.advert({ key: newKeys() })
    await villain.tell({ ...advert, ageMs: 60_000 }, { ...ghost, ageMs: coverageLimits.maxAgeMs })
    expect(seen(victim, villain)?.ageMs).toBeGreaterThan(59_000)
    expect(victim.swarm.peers()).toHaveLength(2)
    await villain.tell({ ...advert, ageMs: 0 })
    expect(seen(victim, villain)?.ageMs).toBeGreaterThan(59_000)
    const forged = advert.beat.slice()
    forged[25] = (forged[25] ?? 0) ^ 1
    await villain.tell({ kind: 'heartbeat', ageMs: 0, bytes: forged })
    expect(seen(victim, villain)?.ageMs).toBeGreaterThan(59_000)
    await villain.tell({ kind: 'heartbeat', ageMs: 0, bytes: advert.beat })
    expect(seen(victim, villain)?.ageMs).toBeLessThan(59_000)
  })

  it('is refused with anything that is not well-formed, and the rest goes on', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    const villain = await startVillain(victim, silent)
    const item = { kind: 'advert' as const, ageMs: 0, bytes: new Uint8Array(2_000) }
    const many = Array.from({ length: 513 }, () => ({ ...item, bytes: new Uint8Array(1) }))
    for (const body of [
      new Uint8Array(0),
      new Uint8Array(9),
      concatBytes(tag, Uint8Array.of(3, 0, 0)),
      concatBytes(tag, Uint8Array.of(1, 255, 255)),
      concatBytes(tag, Uint8Array.of(2, 0, 1, 4, 0, 0, 0, 0, 0, 0)),
      encodeRequest(tag, news([item])),
      encodeRequest(tag, news(many)),
      encodeRequest(networkTag('other'), { op: 'digest', wish: true, reach: EVERYBODY, lines: [] }),
      new Uint8Array(coverageLimits.messageBytes + 1),
    ]) {
      await expect(villain.raw(body)).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    }
    await expect(
      villain.node.request(victim.target, RECORDS_PROTOCOL, new Uint8Array(31), { signal, maxResponseBytes: 10 }),
    ).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    await villain.tell(villain.advert())
    expect(seen(victim, villain)).toBeDefined()
  })

  it.each([
    ['adverts', (villain: Villain) => villain.advert({ network: 'other' })],
    ['contact records', (villain: Villain) => villain.contact({ network: 'other' })],
  ])('is not listened to any more after a number of forged %s', async (_name, forge) => {
    const scores = createPeerScores(systemClock)
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)], scores })
    const villain = await startVillain(victim, silent)
    await villain.tell(villain.advert())
    expect(scores.of([villain.identity.peerId])).toBeNull()
    await villain.tell(...Array.from({ length: coverageLimits.badItems }, () => forge(villain)))
    expect(scores.of([villain.identity.peerId])).toBeLessThan(0.01)
    const key = newKeys()
    await villain.tell(villain.advert({ key }))
    expect(victim.swarm.peers().map(({ addressKey }) => addressKey)).not.toContainEqual(key.publicKey)
    const honest = await startSwarmNode(cleanup, { bootstrap: victim.bootstrap, serving: [serve(0, 4)] })
    const { address } = honest.identity
    await until(victim.swarm, () => victim.swarm.peers().some((peer) => peer.address === address), 3_000)
  })

  it('gets nowhere with endless or senseless answers', async () => {
    const victim = await startSwarmNode(cleanup, { serving: [serve(4, 8)] })
    let asked = 0
    const wants = Array.from({ length: 1_000 }, () => randomBytes(8).toString('hex'))
    const answers = [
      () => new Uint8Array(0),
      () => new Uint8Array(coverageLimits.messageBytes + 1),
      () => encodeAnswer({ ...nothing, wants }),
      () => {
        throw new Error('no')
      },
    ]
    const villain = await startVillain(victim, () => (answers[asked++ % answers.length] ?? silent)())
    // From the first comparison on the victim tells it of changes.
    await eventually(() => asked > 0, 3_000)
    for (let sequence = 1; sequence <= 4; sequence++) {
      await villain.tell(villain.advert({ key: newKeys() }))
      const before = asked
      await victim.swarm.publish([serve(4, 8 + sequence)])
      await eventually(() => asked > before, 3_000)
    }
    expect(victim.swarm.peers()).toHaveLength(5)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(asked).toBeLessThan(40)
  })
})
