import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, scrypt } from 'node:crypto'
import { z } from 'zod'
import { fromHex, fromUtf8, toHex, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import type { Secret } from '../base/secret.ts'

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`))
const R = 8
const LABEL = utf8('llm sealed secret v1')
const BOX_LABEL = 'llm key box v1'
const CIPHER = 'aes-256-gcm'
const TAG = { authTagLength: 16 }

/** Bytes under a password: scrypt (RFC 7914, r = 8, p = 1), then AES-256-GCM. N is checked before anything is computed. */
export const sealedSchema = z.strictObject({
  kdf: z.literal('scrypt'),
  n: z
    .int()
    .min(p2pLimits.scryptMinN)
    .max(p2pLimits.scryptMaxN)
    .refine((n) => Number.isInteger(Math.log2(n)), 'is no power of two'),
  salt: hex(16),
  nonce: hex(12),
  data: z.string().regex(/^([0-9a-f]{2}){17,4096}$/),
})

export type Sealed = z.infer<typeof sealedSchema>

/** Throws BAD_INPUT when the password is too short. */
export async function sealWithPassword(secret: Uint8Array, password: string): Promise<Sealed> {
  if (password.length < p2pLimits.passwordCharacters) {
    throw new LlmNodeError('BAD_INPUT', `The password has less than ${p2pLimits.passwordCharacters} characters.`, {
      hint: 'Take a long one, for example four words.',
    })
  }
  const [salt, nonce] = [randomBytes(16), randomBytes(12)]
  const key = await keyOf(password, salt, p2pLimits.scryptN)
  const data = seal(key, nonce, LABEL, secret)
  key.fill(0)
  return { kdf: 'scrypt', n: p2pLimits.scryptN, salt: toHex(salt), nonce: toHex(nonce), data: toHex(data) }
}

/** Throws AUTH_FAILED on another password or a changed file; nothing tells them apart. */
export async function openSealed(sealed: Sealed, password: string): Promise<Uint8Array> {
  const key = await keyOf(password, fromHex(sealed.salt), sealed.n)
  try {
    return open(key, fromHex(sealed.nonce), LABEL, fromHex(sealed.data))
  } catch {
    throw new LlmNodeError('AUTH_FAILED', 'The password is wrong, or the file is damaged.', {
      hint: 'Try the password again.',
    })
  } finally {
    key.fill(0)
  }
}

/** A text under a key of 256 random bits: no slow hash is needed, so it may be written often. */
export const boxSchema = z.strictObject({
  version: z.literal(1),
  nonce: hex(12),
  box: z.string().regex(/^([0-9a-f]{2}){16,65536}$/),
})

/** `purpose`: another key for each, so that no box can stand in another's place. */
export function sealBox(text: string, key: Secret, purpose: string): z.infer<typeof boxSchema> {
  const nonce = randomBytes(12)
  const own = boxKey(key, purpose)
  const box = seal(own, nonce, utf8(BOX_LABEL), utf8(text))
  own.fill(0)
  return { version: 1, nonce: toHex(nonce), box: toHex(box) }
}

/** Throws AUTH_FAILED. */
export function openBox({ nonce, box }: z.infer<typeof boxSchema>, key: Secret, purpose: string): string {
  const own = boxKey(key, purpose)
  try {
    return fromUtf8(open(own, fromHex(nonce), utf8(BOX_LABEL), fromHex(box)))
  } catch {
    throw new LlmNodeError('AUTH_FAILED', 'This is not what was sealed here.')
  } finally {
    own.fill(0)
  }
}

function boxKey(key: Secret, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key.reveal(), '', `${BOX_LABEL} ${purpose}`, 32))
}

function seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv(CIPHER, key, nonce, TAG).setAAD(aad)
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

function open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
  const decipher = createDecipheriv(CIPHER, key, nonce, TAG).setAAD(aad).setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
}

function keyOf(password: string, salt: Uint8Array, n: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // One spelling for what looks the same, whatever keyboard it was typed on.
    scrypt(password.normalize('NFKC'), salt, 32, { N: n, r: R, p: 1, maxmem: 256 * n * R }, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}
