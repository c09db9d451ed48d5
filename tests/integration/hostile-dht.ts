import { identify } from '@libp2p/identify'
import { type KadDHT, kadDHT } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { createLibp2p } from 'libp2p'
import { utf8 } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { encodeAddress } from '../../src/p2p/address.ts'
import { type ContactBook, createContactBook } from '../../src/p2p/contact-book.ts'
import { type ContactRecord, encodeContactRecord } from '../../src/p2p/contact-record.ts'
import { dhtProtocol, recordKeyText } from '../../src/p2p/dht-service.ts'
import type { PeerNodeOptions } from '../../src/p2p/peer-node.ts'
import { type Cleanup, startPeer, type TestPeer } from './p2p-helpers.ts'

const HOUR = 3_600_000
/** Of the hostile nodes, and of all records: any valid one will do. */
const PEER_ID = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

export interface Victim extends TestPeer {
  readonly book: ContactBook
}

/** A node with its DHT and its records. `folder`: its home. */
export async function startVictim(
  cleanup: Cleanup,
  options: Partial<PeerNodeOptions> & { identityFolder?: string } = {},
): Promise<Victim> {
  const { folder } = options
  let book: ContactBook | undefined
  const peer = await startPeer(cleanup, { dht: true, ...options }, async (node, identity) => {
    book = await createContactBook(
      { network: 'test', ...(folder === undefined ? {} : { folder }) },
      { identity, node, clock: systemClock, logger: silentLogger },
    )
  })
  if (book === undefined) throw new Error('no book')
  const made = book
  cleanup.add(() => made.stop())
  return { ...peer, book: made }
}

export interface HostileDht {
  /** True when the victim has taken it; throws when it was never asked. */
  put(key: string, value: Uint8Array): Promise<boolean>
}

/** Speaks the DHT of the network and takes everything for valid. */
export async function startHostile(cleanup: Cleanup, victim: Victim, signal: AbortSignal): Promise<HostileDht> {
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
  const { peerId } = victim.node.self
  return {
    /** True when the victim has taken it; throws when it was never asked. */
    async put(key, value) {
      for (let attempt = 0; attempt < 40; attempt++) {
        let asked = false
        let taken = false
        // Other hostile nodes, of which it hears through the victim, take everything.
        for await (const event of dht.put(utf8(key), value, { signal })) {
          if (event.name === 'SEND_QUERY' && event.messageName === 'PUT_VALUE') asked ||= event.to.toString() === peerId
          if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') {
            taken ||= event.from.toString() === peerId
          }
        }
        if (asked) return taken
        // Its routing table fills a moment after the connection.
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      throw new Error('the victim was never asked')
    },
  }
}

/** An address that nobody runs: keys to sign records with. */
export interface Author {
  readonly addressKey: Uint8Array
  readonly key: string
  readonly sign: (message: Uint8Array) => Uint8Array
}

export function newAuthor(): Author {
  const { secretKey, publicKey } = ed25519.keygen()
  const key = recordKeyText(encodeAddress(publicKey))
  return { addressKey: publicKey, key, sign: (message) => ed25519.sign(message, secretKey) }
}

export function recordOf({ addressKey, sign }: Author, change: Partial<ContactRecord> = {}): Uint8Array {
  const nowMs = Date.now()
  const times = { sequence: nowMs, issuedMs: nowMs, expiresMs: nowMs + 3 * HOUR, onionKeyEndsMs: nowMs + 100 * HOUR }
  const fixed = {
    flags: 0,
    addressKey,
    peerId: PEER_ID,
    onionKey: x25519.keygen().publicKey,
    addrs: [],
    familyKeys: [],
  }
  return encodeContactRecord({ ...fixed, ...times, ...change }, { network: 'test', sign })
}
