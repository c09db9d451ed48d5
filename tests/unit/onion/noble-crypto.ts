import { gcm } from '@noble/ciphers/aes.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { randomBytes } from '@noble/hashes/utils.js'
import { concatBytes } from '../../../src/base/bytes.ts'
import { authFailed, type CryptoBackend } from '../../../src/onion/crypto.ts'

/** The second opinion: the same primitives in audited JavaScript. */
export const nobleCrypto: CryptoBackend = {
  aead(key) {
    const kept = Uint8Array.from(key)
    return {
      seal(nonce, aad, plaintext, out, offset) {
        out.set(gcm(kept, nonce, aad).encrypt(plaintext), offset)
      },
      open(nonce, aad, sealed) {
        try {
          return gcm(kept, nonce, aad).decrypt(sealed)
        } catch {
          throw authFailed()
        }
      },
    }
  },
  x25519(privateKey, publicKey) {
    try {
      return x25519.getSharedSecret(privateKey, publicKey)
    } catch {
      throw authFailed()
    }
  },
  x25519PublicKey: (privateKey) => x25519.getPublicKey(privateKey),
  hkdf: (ikm, salt, info, length) => hkdf(sha256, ikm, salt, info, length),
  hmac: (key, message) => hmac(sha256, key, message),
  sha256: (...parts) => sha256(concatBytes(...parts)),
  random: (length) => randomBytes(length),
}
