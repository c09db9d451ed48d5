import { randomBytes } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ed25519 } from '@noble/curves/ed25519.js'
import { type Advert, advertIdOf, encodeAdvert, encodeTombstone, type Serving } from '../../../src/coverage/advert.ts'
import { createChain, encodeHeartbeat } from '../../../src/coverage/heartbeat.ts'

export const network = 'test'
const peerId = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()

export const serving: Serving = {
  modelId: new Uint8Array(32).fill(1),
  span: { start: 4, end: 8 },
  recipe: 'i8/1',
  numericsClass: new Uint8Array(32).fill(2),
  state: 'online',
  decodeMs: 1.25,
  prefillMs: 0.125,
  freeKvTokens: 4_096,
  layerDigests: new Uint8Array(16).fill(3),
}

/** A node as far as adverts go: its keys, its chain, its signed items. */
export interface TestNode {
  readonly addressKey: Uint8Array
  readonly sign: (message: Uint8Array) => Uint8Array
  advert(
    change?: Partial<Advert>,
    inNetwork?: string,
  ): { advert: Advert; bytes: Uint8Array; beat(index: number): Uint8Array }
  tombstone(sequence: number): Uint8Array
}

export function createTestNode(): TestNode {
  const { secretKey, publicKey } = ed25519.keygen()
  const sign = (message: Uint8Array) => ed25519.sign(message, secretKey)
  return {
    addressKey: publicKey,
    sign,
    advert(change = {}, inNetwork = network) {
      const sequence = change.sequence ?? 1_000
      const chain = createChain({ addressKey: publicKey, sequence }, randomBytes(16))
      const advert: Advert = {
        addressKey: publicKey,
        peerId,
        sequence,
        serving: [serving],
        relay: false,
        reachability: 'unreachable',
        neighbours: [{ nodeId: '0011223344556677', rttMs: 1.5 }],
        version: '0.1.0',
        chainEnd: chain[0] ?? new Uint8Array(16),
        ...change,
      }
      const bytes = encodeAdvert(advert, { network: inNetwork, sign })
      const beat = (index: number) =>
        encodeHeartbeat({ advertId: advertIdOf(bytes), index, link: chain[index] ?? new Uint8Array(16) })
      return { advert, bytes, beat }
    },
    tombstone: (sequence) => encodeTombstone({ addressKey: publicKey, sequence }, { network, sign }),
  }
}
