import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import { type AeadKey, type CryptoBackend, IV_BYTES, KEY_BYTES } from './crypto.ts'

/** K32 | IV12 | CK32: what a key of any kind starts from, and what one ratchet step yields. */
export const MATERIAL_BYTES = KEY_BYTES + IV_BYTES + KEY_BYTES

/** f, b: control onion forward and backward; d: data of a segment; r: relay layer (protocol.md §3). */
export type RatchetDirection = 'f' | 'b' | 'd' | 'r'

/** Epoch e covers n from e × 1,024 on. */
const EPOCH_SHIFT = 10
/** JavaScript numbers stay exact up to here; a circuit's life ends far earlier (64 GiB). */
const MAX_N = Number.MAX_SAFE_INTEGER

/** Seals with a key of its own, so that no (key, n) can come twice: n is counted here and nowhere else. */
export interface Sealer {
  /** The n that the next sealing uses. */
  readonly n: number
  /** Writes ciphertext | tag into `out` at `offset`. */
  seal(aad: Uint8Array, plaintext: Uint8Array, out: Uint8Array, offset: number): void
  wipe(): void
}

export interface Opener {
  /** The n that the next frame must have. */
  readonly n: number
  /** Throws AUTH_FAILED; n does not move then, and the circuit has to end. */
  open(aad: Uint8Array, sealed: Uint8Array): Uint8Array
  wipe(): void
}

/** Takes `material` over and wipes it in the end. */
export function createSealer(material: Secret, direction: RatchetDirection, crypto: CryptoBackend): Sealer {
  const ratchet = new Ratchet(material, direction, crypto)
  return {
    get n() {
      return ratchet.n
    },
    seal(aad, plaintext, out, offset) {
      ratchet.prepare().seal(ratchet.nonce, aad, plaintext, out, offset)
      ratchet.n++
    },
    wipe: () => ratchet.wipe(),
  }
}

/** Takes `material` over and wipes it in the end. */
export function createOpener(material: Secret, direction: RatchetDirection, crypto: CryptoBackend): Opener {
  const ratchet = new Ratchet(material, direction, crypto)
  return {
    get n() {
      return ratchet.n
    },
    open(aad, sealed) {
      const plaintext = ratchet.prepare().open(ratchet.nonce, aad, sealed)
      ratchet.n++
      return plaintext
    },
    wipe: () => ratchet.wipe(),
  }
}

/** `out` = IV XOR n, n right-aligned (protocol.md §3). */
export function writeNonce(iv: Uint8Array, n: number, out: Uint8Array): void {
  out.set(iv)
  let rest = n
  for (let i = IV_BYTES - 1; rest > 0; i--) {
    out[i] = (out[i] ?? 0) ^ (rest & 0xff)
    rest = Math.floor(rest / 256)
  }
}

class Ratchet {
  n = 0
  readonly nonce = new Uint8Array(IV_BYTES)
  readonly #material: Secret
  readonly #iv: Uint8Array
  readonly #key: Uint8Array
  readonly #chain: Uint8Array
  readonly #direction: RatchetDirection
  readonly #crypto: CryptoBackend
  /** Of this epoch; undefined after wiping. */
  #aead: AeadKey | undefined
  #epoch = 0

  constructor(material: Secret, direction: RatchetDirection, crypto: CryptoBackend) {
    const bytes = material.reveal()
    if (bytes.length !== MATERIAL_BYTES) throw new LlmNodeError('INTERNAL', 'Key material has the wrong length.')
    this.#material = material
    this.#key = bytes.subarray(0, KEY_BYTES)
    this.#iv = bytes.subarray(KEY_BYTES, KEY_BYTES + IV_BYTES)
    this.#chain = bytes.subarray(KEY_BYTES + IV_BYTES)
    this.#direction = direction
    this.#crypto = crypto
    this.#aead = crypto.aead(this.#key)
  }

  /** Brings key and nonce to n. Overwrites the old epoch's key. */
  prepare(): AeadKey {
    if (this.#aead === undefined) throw new LlmNodeError('CIRCUIT_BROKEN', 'This circuit has ended.')
    if (this.n >= MAX_N) throw new LlmNodeError('LIMIT', 'A key of this circuit is used up.')
    const epoch = Math.floor(this.n / 2 ** EPOCH_SHIFT)
    while (this.#epoch < epoch) {
      const info = utf8(`llm/rekey ${this.#direction} ${++this.#epoch}`)
      const next = this.#crypto.hkdf(this.#key, this.#chain, info, MATERIAL_BYTES)
      this.#material.reveal().set(next)
      next.fill(0)
      this.#aead = this.#crypto.aead(this.#key)
    }
    writeNonce(this.#iv, this.n, this.nonce)
    return this.#aead
  }

  wipe(): void {
    this.#aead = undefined
    this.#material.wipe()
    this.nonce.fill(0)
  }
}
