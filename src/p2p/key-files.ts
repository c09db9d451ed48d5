/** The files in a home's key folder: mode 0600, written atomically, never shown. */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { sealedSchema } from './sealed-secret.ts'

const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const onionKeySchema = z.strictObject({ private: hex32, createdMs: z.number().int().nonnegative() })
export type StoredOnionKey = z.infer<typeof onionKeySchema>
/** The seed as it is, or sealed with a password (sealed-secret.ts). */
export const addressSchema = z.union([
  z.strictObject({ version: z.literal(1), seed: hex32 }),
  z.strictObject({ version: z.literal(2), sealed: sealedSchema }),
])
export const transportSchema = z.strictObject({
  version: z.literal(1),
  private: z.string().regex(/^([0-9a-f]{2}){16,512}$/),
})
export const onionSchema = z.strictObject({
  version: z.literal(1),
  current: onionKeySchema,
  previous: onionKeySchema.nullable(),
})

export async function prepareFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw unusable(folder, 'cannot be created', cause)
  }
}

export async function loadOrCreate<T>(path: string, schema: z.ZodType<T>, create: () => Promise<T>): Promise<T> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
    if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable(path, 'cannot be read', cause)
    const fresh = await create()
    await writeSecret(path, fresh)
    return fresh
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's message would quote the file, and the file is a secret.
    throw unusable(path, 'is damaged')
  }
  const checked = schema.safeParse(parsed)
  if (!checked.success) throw unusable(path, 'is damaged')
  return checked.data
}

export async function writeSecret(path: string, value: unknown): Promise<void> {
  try {
    await writeFileAtomic(path, `${JSON.stringify(value)}\n`, 0o600)
  } catch (cause) {
    throw unusable(path, 'cannot be written', cause)
  }
}

export function unusable(path: string, problem: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('HOME_UNUSABLE', `The key file ${path} ${problem}.`, {
    hint: 'Restore it from a backup or give this user access to it; deleting it gives this node a new identity.',
    ...(cause === undefined ? {} : { cause }),
  })
}
