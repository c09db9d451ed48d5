import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'

/** DER around raw 32-byte keys (RFC 8410 §4, §7): Node 22 imports no raw ones. */
const SPKI_PREFIX = {
  x25519: Buffer.from('302a300506032b656e032100', 'hex'),
  ed25519: Buffer.from('302a300506032b6570032100', 'hex'),
}
const X25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex')

/** Throws when the key has not 32 bytes; it is not looked at otherwise. */
export function importPublicKey(kind: 'x25519' | 'ed25519', raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX[kind], raw]), format: 'der', type: 'spki' })
}

export function exportPublicKey(key: KeyObject): Uint8Array {
  return key.export({ format: 'der', type: 'spki' }).subarray(-32)
}

/** X25519. Keeps what it needs; `raw` may be overwritten afterwards. Throws when the key has not 32 bytes. */
export function importPrivateKey(raw: Uint8Array): KeyObject {
  const der = Buffer.concat([X25519_PKCS8_PREFIX, raw])
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  } finally {
    der.fill(0)
  }
}
