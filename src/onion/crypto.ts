import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import { LlmNodeError } from '../base/errors.ts'
import { exportPublicKey, importPrivateKey, importPublicKey } from '../base/raw-keys.ts'

export const KEY_BYTES = 32
export const IV_BYTES = 12
export const TAG_BYTES = 16

/** AES-256-GCM under one key. Nonces of 12 bytes, tags of 16. */
export interface AeadKey {
  /** Writes ciphertext, then the tag, into `out` from `offset` on. */
  seal(nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array, out: Uint8Array, offset: number): void
  /** `sealed` is ciphertext, then tag. A fresh buffer. Throws AUTH_FAILED. */
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array
}

/** The primitives of protocol.md. A parameter, so that tests can watch every sealing and bring a second implementation. */
export interface CryptoBackend {
  /** Keeps what it needs of the 32 bytes; they may be overwritten afterwards. */
  aead(key: Uint8Array): AeadKey
  /** X25519 (RFC 7748). Throws AUTH_FAILED on an all-zero shared secret (§6.1), that is, on every low-order point. */
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array
  x25519PublicKey(privateKey: Uint8Array): Uint8Array
  /** HKDF-SHA256 (RFC 5869), extract and expand. */
  hkdf(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array
  hmac(key: Uint8Array, message: Uint8Array): Uint8Array
  sha256(...parts: readonly Uint8Array[]): Uint8Array
  random(length: number): Uint8Array
}

const GCM = 'aes-256-gcm'
/** Without it Node up to 22 accepts tags of 4 bytes (measured; DEP0182). */
const GCM_OPTIONS = { authTagLength: TAG_BYTES }

/** OpenSSL through node:crypto: AES-NI where the processor has it, 10 to 50 times as fast as JavaScript (bench/onion.ts). */
export const nodeCrypto: CryptoBackend = {
  // A KeyObject: with raw bytes Node looks into them anew for every message, which costs more than a decode row itself
  // (measured: 7 instead of 30 µs for 5 KiB). Node clears its memory when it is collected.
  aead(key) {
    if (key.length !== KEY_BYTES) throw misuse('key', key.length)
    const keyObject = createSecretKey(key)
    return {
      seal: (nonce, aad, plaintext, out, offset) => seal(keyObject, nonce, aad, plaintext, out, offset),
      open: (nonce, aad, sealed) => open(keyObject, nonce, aad, sealed),
    }
  },
  x25519(privateKey, publicKey) {
    if (publicKey.length !== KEY_BYTES) throw misuse('public key', publicKey.length)
    const secret = importPrivate(privateKey)
    let shared: Uint8Array
    try {
      shared = diffieHellman({ privateKey: secret, publicKey: importPublicKey('x25519', publicKey) })
    } catch {
      throw authFailed()
    }
    // OpenSSL refuses low-order points by itself; that must not depend on its version.
    if (isZero(shared)) throw authFailed()
    return shared
  },
  x25519PublicKey: (privateKey) => exportPublicKey(createPublicKey(importPrivate(privateKey))),
  hkdf: (ikm, salt, info, length) => new Uint8Array(hkdfSync('sha256', ikm, salt, info, length)),
  hmac: (key, message) => createHmac('sha256', key).update(message).digest(),
  sha256(...parts) {
    const hash = createHash('sha256')
    for (const part of parts) hash.update(part)
    return hash.digest()
  },
  random: (length) => randomBytes(length),
}

function seal(
  key: KeyObject,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  out: Uint8Array,
  offset: number,
): void {
  if (nonce.length !== IV_BYTES) throw misuse('nonce', nonce.length)
  if (offset < 0 || offset + plaintext.length + TAG_BYTES > out.length) throw misuse('out', out.length)
  const cipher = createCipheriv(GCM, key, nonce, GCM_OPTIONS)
  cipher.setAAD(aad)
  out.set(cipher.update(plaintext), offset)
  cipher.final()
  out.set(cipher.getAuthTag(), offset + plaintext.length)
}

function open(key: KeyObject, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
  if (nonce.length !== IV_BYTES) throw misuse('nonce', nonce.length)
  const length = sealed.length - TAG_BYTES
  if (length < 0) throw authFailed()
  const decipher = createDecipheriv(GCM, key, nonce, GCM_OPTIONS)
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(length))
  const plaintext = decipher.update(sealed.subarray(0, length))
  try {
    decipher.final()
  } catch {
    plaintext.fill(0)
    throw authFailed()
  }
  return plaintext
}

function importPrivate(privateKey: Uint8Array): KeyObject {
  if (privateKey.length !== KEY_BYTES) throw misuse('private key', privateKey.length)
  return importPrivateKey(privateKey)
}

/** In constant time for equal lengths; lengths are public. */
export function equalSecrets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/**
 * True for the one encoding that a public key has. RFC 7748 reduces others modulo 2^255 − 19; an honest key never is one,
 * so a handshake that shows one is refused.
 */
export function isCanonicalPoint(u: Uint8Array): boolean {
  if (u.length !== KEY_BYTES) return false
  const top = u[31] ?? 0
  if (top !== 0x7f) return top < 0x7f
  for (let i = 30; i > 0; i--) if (u[i] !== 0xff) return true
  return (u[0] ?? 0) < 0xed
}

export function isZero(bytes: Uint8Array): boolean {
  let seen = 0
  for (const byte of bytes) seen |= byte
  return seen === 0
}

export function authFailed(): LlmNodeError {
  return new LlmNodeError('AUTH_FAILED', 'A message of the circuit is not authentic.')
}

function misuse(field: string, length: number): LlmNodeError {
  return new LlmNodeError('INTERNAL', `The ${field} of a cipher has the wrong length.`, { meta: { field, length } })
}
