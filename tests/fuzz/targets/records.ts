import { createPrivateKey, sign as nodeSign } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { concatBytes } from '../../../src/base/bytes.ts'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import { encodeAdvert, encodeTombstone, nodeIdOf, verifyAdvert, verifyTombstone } from '../../../src/coverage/advert.ts'
import { decodeHeartbeat, encodeHeartbeat } from '../../../src/coverage/heartbeat.ts'
import { encodeContactRecord, verifyContactRecord } from '../../../src/p2p/contact-record.ts'
import { encap } from '../../../src/p2p/network.ts'
import { peerIdFromBytes } from '../../../src/p2p/peer-id-bytes.ts'
import { type FuzzTarget, promise, sameBytes, unlessRefused } from '../target.ts'

const NOW = 1_800_000_000_000
const NETWORK = 'fuzz'
const SEED = new Uint8Array(32).fill(0x5e)
const KEY = ed25519.getPublicKey(SEED)
const SIGNER = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), SEED]),
  format: 'der',
  type: 'pkcs8',
})
const PEER_ID = peerIdFromBytes(concatBytes(Uint8Array.of(0, 0x24, 8, 1, 0x12, 0x20), KEY))
const by = { network: NETWORK, sign: (message: Uint8Array) => new Uint8Array(nodeSign(null, message, SIGNER)) }

/**
 * Bytes without a signature go through `read` with a wrong one. When only that is wrong and the key is ours, they are
 * signed, must be taken then, and `write` must give the same bytes.
 */
function checkSigned<T>(
  unsigned: Uint8Array,
  label: string,
  codec: { read(bytes: Uint8Array): T; write(record: T): Uint8Array; keyOf(record: T): Uint8Array },
): void {
  try {
    codec.read(concatBytes(unsigned, new Uint8Array(64)))
  } catch (error) {
    if (!isLlmNodeError(error, 'BAD_RECORD')) throw error
    const holdsKey = Buffer.from(unsigned).includes(Buffer.from(KEY))
    if (!error.message.includes('not signed') || !holdsKey) return
    const signed = concatBytes(unsigned, by.sign(concatBytes(Buffer.from(label), encap(NETWORK), unsigned)))
    const record = unlessRefused(['BAD_RECORD'], () => codec.read(signed))
    if (record === undefined) return
    promise(sameBytes(codec.keyOf(record), KEY), 'a signature counts for the key in the record only')
    promise(sameBytes(codec.write(record), signed), 'a record that is taken has one encoding')
    return
  }
  promise(false, 'nothing is taken without a signature')
}

export const contactTarget: FuzzTarget = {
  name: 'contact',
  maxBytes: 1_600,
  maxAllocated: (length) => 262_144 + 256 * length,
  seeds: () => {
    const onionKey = ed25519.utils.toMontgomery(KEY)
    const record = {
      flags: 0,
      addressKey: KEY,
      sequence: 7,
      issuedMs: NOW,
      expiresMs: NOW + 10_800_000,
      onionKey,
      onionKeyEndsMs: NOW + 1e9,
      peerId: PEER_ID,
    }
    const addrs = [
      '/ip4/192.0.2.1/tcp/4001',
      '/ip6/2001:db8::7/udp/4001/quic-v1',
      `/ip4/192.0.2.9/tcp/1/p2p/${PEER_ID}/p2p-circuit`,
    ]
    return [
      encodeContactRecord({ ...record, addrs, familyKeys: [KEY] }, by),
      encodeContactRecord({ ...record, addrs: [], familyKeys: [] }, by),
    ].map((bytes) => bytes.subarray(0, -64))
  },
  run(input) {
    checkSigned(input, 'llm contact v1', {
      read: (bytes) => verifyContactRecord(bytes, { network: NETWORK, nowMs: NOW }),
      write: (record) => encodeContactRecord(record, by),
      keyOf: (record) => record.addressKey,
    })
    unlessRefused(['BAD_RECORD'], () => verifyContactRecord(input, { network: NETWORK, nowMs: NOW }))
  },
}

/** Input: kind 1 (advert, tombstone or heartbeat), then the bytes without a signature. */
export const advertTarget: FuzzTarget = {
  name: 'advert',
  maxBytes: 1_100,
  maxAllocated: (length) => 262_144 + 256 * length,
  seeds: () => {
    const fixed = (length: number, fill: number) => new Uint8Array(length).fill(fill)
    const serving = {
      modelId: fixed(32, 1),
      span: { start: 0, end: 3 },
      recipe: 'f16',
      numericsClass: fixed(32, 2),
      state: 'online' as const,
      decodeMs: 1.5,
      prefillMs: 0.25,
      freeKvTokens: 9,
      layerDigests: fixed(12, 3),
    }
    const neighbours = [{ nodeId: nodeIdOf(KEY), rttMs: 12.5 }]
    const advert = {
      addressKey: KEY,
      peerId: PEER_ID,
      sequence: 9,
      relay: true,
      reachability: 'public' as const,
      version: '0.1.0',
      chainEnd: fixed(16, 4),
    }
    const seeds: [number, Uint8Array][] = [
      [
        0,
        encodeAdvert(
          { ...advert, serving: [serving, { ...serving, span: { start: 8, end: 11 } }], neighbours },
          by,
        ).subarray(0, -64),
      ],
      [0, encodeAdvert({ ...advert, serving: [], neighbours: [] }, by).subarray(0, -64)],
      [1, encodeTombstone({ addressKey: KEY, sequence: 3 }, by).subarray(0, -64)],
      [2, encodeHeartbeat({ advertId: fixed(8, 5), index: 2, link: fixed(16, 6) })],
    ]
    return seeds.map(([kind, bytes]) => concatBytes(Uint8Array.of(kind), bytes))
  },
  run(input) {
    const kind = (input[0] ?? 0) % 3
    const bytes = input.subarray(1)
    if (kind === 0) {
      checkSigned(bytes, 'llm advert v1', {
        read: (signed) => verifyAdvert(signed, { network: NETWORK }),
        write: (advert) => encodeAdvert(advert, by),
        keyOf: (advert) => advert.addressKey,
      })
    } else if (kind === 1) {
      checkSigned(bytes, 'llm advert end v1', {
        read: (signed) => verifyTombstone(signed, { network: NETWORK }),
        write: (tombstone) => encodeTombstone(tombstone, by),
        keyOf: (tombstone) => tombstone.addressKey,
      })
    } else {
      const heartbeat = unlessRefused(['BAD_RECORD'], () => decodeHeartbeat(bytes))
      promise(heartbeat === undefined || sameBytes(encodeHeartbeat(heartbeat), bytes), 'a heartbeat has one encoding')
    }
  },
}
