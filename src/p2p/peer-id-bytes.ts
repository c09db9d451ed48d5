import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { concatBytes, equalBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { parsePeerId } from './peer-addrs.ts'

/** The multihash of an Ed25519 PeerId: identity hash of 36 bytes, protobuf key type 1, 32 bytes of key. */
export const PEER_ID_BYTES = 38
const PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20)

/** Throws BAD_INPUT for a PeerId of another kind of key: our nodes all have Ed25519 ones. */
export function peerIdToBytes(peerId: string): Uint8Array<ArrayBuffer> {
  const parsed = parsePeerId(peerId)
  if (parsed.type !== 'Ed25519') throw new LlmNodeError('BAD_INPUT', `${peerId} is not the PeerId of an Ed25519 key.`)
  return concatBytes(PREFIX, parsed.publicKey.raw)
}

/** Throws BAD_RECORD. */
export function peerIdFromBytes(bytes: Uint8Array): string {
  if (bytes.length === PEER_ID_BYTES && equalBytes(bytes.subarray(0, PREFIX.length), PREFIX)) {
    try {
      return peerIdFromPublicKey(publicKeyFromRaw(bytes.slice(PREFIX.length))).toString()
    } catch {
      // Falls through to the one message.
    }
  }
  throw new LlmNodeError('BAD_RECORD', 'The PeerId is not that of an Ed25519 key.')
}
