import { identify } from '@libp2p/identify'
import { type KadDHT, kadDHT } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import { utf8 } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { type ContactBook, createContactBook } from '../../src/p2p/contact-book.ts'
import { type ContactRecord, encodeContactRecord } from '../../src/p2p/contact-record.ts'
import { dhtProtocol, recordKeyText } from '../../src/p2p/dht-service.ts'
import { type Identity, loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { createCleanup, startPeer, type TestPeer, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(55_000)
const HOUR = 3_600_000

interface Victim extends TestPeer {
  readonly book: ContactBook
}

async function startVictim(): Promise<Victim> {
  let book: ContactBook | undefined
  const peer = await startPeer(cleanup, { dht: true }, async (node, identity) => {
    book = await createContactBook({ network: 'test' }, { identity, node, clock: systemClock, logger: silentLogger })
  })
  if (book === undefined) throw new Error('no book')
  const made = book
  cleanup.add(() => made.stop())
  return { ...peer, book: made }
}

/** Speaks the DHT of the network and takes everything for valid. */
async function startHostile(victim: Victim): Promise<{ put(key: string, value: Uint8Array): Promise<boolean> }> {
  const anything = async () => {}
  const host = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: dhtProtocol('test', 'lan'),
        clientMode: false,
        allowQueryWithZeroPeers: true,
        peerInfoMapper: (peer) => peer,
        validators: { llm: anything, other: anything },
        selectors: { llm: () => 0, other: () => 0 },
      }),
    },
  })
  cleanup.add(async () => await host.stop())
  await host.dial(multiaddr(victim.bootstrap[0] ?? ''))
  const dht: KadDHT = host.services.dht
  return {
    /** True when the victim has taken it; throws when it was never asked. */
    async put(key, value) {
      for (let attempt = 0; attempt < 40; attempt++) {
        let asked = false
        let taken = false
        for await (const event of dht.put(utf8(key), value, { signal })) {
          if (event.name === 'SEND_QUERY' && event.messageName === 'PUT_VALUE') asked = true
          if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') taken = true
        }
        if (asked) return taken
        // Its routing table fills a moment after the connection.
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      throw new Error('the victim was never asked')
    },
  }
}

const newIdentity = async () => loadOrCreateIdentity(await temporaryFolder(cleanup), { nowMs: Date.now() })

function recordOf(identity: Identity, change: Partial<ContactRecord> = {}): Uint8Array {
  const nowMs = Date.now()
  const [onion] = identity.onionKeys(nowMs)
  const { addressKey, peerId } = identity
  const times = { issuedMs: nowMs, expiresMs: nowMs + 3 * HOUR, onionKeyEndsMs: onion.endsMs }
  const fixed = { flags: 0, addressKey, peerId, onionKey: onion.publicKey, addrs: [], familyKeys: [] }
  return encodeContactRecord(
    { ...fixed, ...times, sequence: nowMs, ...change },
    { network: 'test', sign: identity.sign },
  )
}

describe('the DHT takes', () => {
  it('a valid record, and four a minute from one sender', async () => {
    const victim = await startVictim()
    const hostile = await startHostile(victim)
    const taken: boolean[] = []
    for (let i = 0; i < 6; i++) {
      const identity = await newIdentity()
      taken.push(await hostile.put(recordKeyText(identity.address), recordOf(identity)))
      expect(victim.book.get(identity.addressKey) !== undefined).toBe(taken[i])
    }
    expect(taken).toEqual([true, true, true, true, false, false])
    // Others are not kept from it.
    const other = await newIdentity()
    expect(await (await startHostile(victim)).put(recordKeyText(other.address), recordOf(other))).toBe(true)
  })
})

describe('the DHT refuses', () => {
  const cases: [string, (identity: Identity, key: string) => Promise<[string, Uint8Array]> | [string, Uint8Array]][] = [
    ['an older record', (identity, key) => [key, recordOf(identity, { sequence: 999 })]],
    [
      'another record with the same number',
      (identity, key) => [key, recordOf(identity, { sequence: 1_000, flags: 1 })],
    ],
    ['one that has expired', (identity, key) => [key, recordOf(identity, { issuedMs: 1, expiresMs: HOUR })]],
    [
      'one from the future',
      (identity, key) => {
        const issuedMs = Date.now() + HOUR
        return [key, recordOf(identity, { issuedMs, expiresMs: issuedMs + HOUR })]
      },
    ],
    ['one that lives too long', (identity, key) => [key, recordOf(identity, { expiresMs: Date.now() + 13 * HOUR })]],
    [
      'a forged one',
      (identity, key) => {
        const bytes = recordOf(identity)
        bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
        return [key, bytes]
      },
    ],
    ['one that is too long', (identity, key) => [key, Uint8Array.of(...recordOf(identity), ...new Uint8Array(1_536))]],
    [
      'one under the key of another',
      async (identity) => [recordKeyText((await newIdentity()).address), recordOf(identity)],
    ],
    ['one under a key that is no address', (identity, key) => [`${key}/x`, recordOf(identity)]],
    ['another namespace', (identity, key) => [key.replace('/llm/', '/other/'), recordOf(identity)]],
  ]

  it.each(cases)('%s', async (_name, forge) => {
    const victim = await startVictim()
    const identity = await newIdentity()
    const key = recordKeyText(identity.address)
    victim.book.accept(recordOf(identity, { sequence: 1_000 }))
    const before = victim.book.get(identity.addressKey)?.bytes
    const hostile = await startHostile(victim)
    expect(await hostile.put(...(await forge(identity, key)))).toBe(false)
    expect(victim.book.get(identity.addressKey)?.bytes).toEqual(before)
    // The same sender's next valid record is taken: what was refused was the record, not the sender.
    expect(await hostile.put(key, recordOf(identity, { sequence: 1_001 }))).toBe(true)
  })
})
