import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { z } from 'zod'
import { fromHex, toHex, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`))
const R = 8
const LABEL = utf8('llm sealed secret v1')

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
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(LABEL)
  const data = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()])
  key.fill(0)
  return { kdf: 'scrypt', n: p2pLimits.scryptN, salt: toHex(salt), nonce: toHex(nonce), data: toHex(data) }
}

/** Throws AUTH_FAILED on another password or a changed file; nothing tells them apart. */
export async function openSealed(sealed: Sealed, password: string): Promise<Uint8Array> {
  const data = fromHex(sealed.data)
  const key = await keyOf(password, fromHex(sealed.salt), sealed.n)
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, fromHex(sealed.nonce), { authTagLength: 16 })
    decipher.setAAD(LABEL).setAuthTag(data.subarray(-16))
    return Buffer.concat([decipher.update(data.subarray(0, -16)), decipher.final()])
  } catch {
    throw new LlmNodeError('AUTH_FAILED', 'The password is wrong, or the file is damaged.', {
      hint: 'Try the password again.',
    })
  } finally {
    key.fill(0)
  }
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
