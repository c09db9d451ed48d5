import { ed25519 } from '@noble/curves/ed25519.js'
import { concatBytes, utf8 } from '../base/bytes.ts'
import { encap } from './network.ts'

export const SIGNATURE_BYTES = 64

/** What an address key signs: a label for the kind of record | ENCAP(VER) | the bytes (swarm.md §2). */
function signedMessage(label: string, network: string, bytes: Uint8Array): Uint8Array {
  return concatBytes(utf8(label), encap(network), bytes)
}

/** `bytes` followed by the signature. */
export function appendSignature(
  bytes: Uint8Array,
  by: { label: string; network: string; sign: (message: Uint8Array) => Uint8Array },
): Uint8Array<ArrayBuffer> {
  return concatBytes(bytes, by.sign(signedMessage(by.label, by.network, bytes)))
}

/** True when `signed` ends with a signature over the rest. Strict (zip215: false): one answer in every implementation. */
export function hasSignature(
  signed: Uint8Array,
  by: { label: string; network: string; addressKey: Uint8Array },
): boolean {
  if (signed.length < SIGNATURE_BYTES) return false
  const bytes = signed.subarray(0, -SIGNATURE_BYTES)
  try {
    const message = signedMessage(by.label, by.network, bytes)
    return ed25519.verify(signed.subarray(-SIGNATURE_BYTES), message, by.addressKey, { zip215: false })
  } catch {
    return false
  }
}
