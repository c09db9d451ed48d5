import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { boxSchema, openBox, openSealed, sealBox, sealedSchema, sealWithPassword } from './sealed-secret.ts'

/** Everything in a key folder that a password protects: whatever is worth copying. */
const SECRET_FILES = ['address.json', 'transport.json', 'onion.json', 'networks.json'] as const
export type SecretFile = (typeof SECRET_FILES)[number]

/** With a password: holds the home key, sealed under it. Each secret file is sealed under the home key then. */
const LOCK_FILE = 'lock.json'
const lockSchema = z.strictObject({ version: z.literal(1), sealed: sealedSchema })
const HOME_KEY_BYTES = 32

/** The secrets of a home: mode 0600, written atomically, never shown. */
export interface KeyFiles {
  readonly folder: string
  /** Undefined: there is no such file. Throws HOME_UNUSABLE. */
  read<T>(name: SecretFile, schema: z.ZodType<T>): Promise<T | undefined>
  /** What is there is never replaced by something new only because it cannot be read. Throws HOME_UNUSABLE. */
  readOrCreate<T>(name: SecretFile, schema: z.ZodType<T>, create: () => Promise<T>): Promise<T>
  write(name: SecretFile, value: unknown): Promise<void>
  /** Another password, a first one, or none (null). */
  protect(password: string | null): Promise<void>
}

/** Throws AUTH_FAILED without the password of a protected home, HOME_UNUSABLE. */
export async function openKeyFiles(folder: string, password: string | undefined): Promise<KeyFiles> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw unusable(folder, 'cannot be created', cause)
  }
  const lock = await readJson(join(folder, LOCK_FILE))
  if (lock === undefined) return new FolderKeys(folder, undefined)
  const checked = lockSchema.safeParse(lock)
  if (!checked.success) throw unusable(join(folder, LOCK_FILE), 'is damaged')
  if (password === undefined || password === '') {
    throw new LlmNodeError('AUTH_FAILED', 'The keys of this home are protected with a password.', {
      hint: 'Give it in the environment variable LLM_NODE_KEY_PASSWORD.',
    })
  }
  return new FolderKeys(folder, createSecret(await openSealed(checked.data.sealed, password)))
}

class FolderKeys implements KeyFiles {
  readonly folder: string
  /** Undefined: the files are not sealed. */
  #homeKey: Secret | undefined

  constructor(folder: string, homeKey: Secret | undefined) {
    this.folder = folder
    this.#homeKey = homeKey
  }

  async read<T>(name: SecretFile, schema: z.ZodType<T>): Promise<T | undefined> {
    const path = join(this.folder, name)
    const stored = await readJson(path)
    if (stored === undefined) return undefined
    const box = boxSchema.safeParse(stored)
    const value = box.success ? this.#open(path, name, box.data) : stored
    const checked = schema.safeParse(value)
    if (!checked.success) throw unusable(path, 'is damaged')
    // Left open by a protection that was broken off.
    if (!box.success && this.#homeKey !== undefined) await this.write(name, value)
    return checked.data
  }

  async readOrCreate<T>(name: SecretFile, schema: z.ZodType<T>, create: () => Promise<T>): Promise<T> {
    const found = await this.read(name, schema)
    if (found !== undefined) return found
    const fresh = await create()
    await this.write(name, fresh)
    return fresh
  }

  async write(name: SecretFile, value: unknown): Promise<void> {
    const key = this.#homeKey
    const text = JSON.stringify(value)
    await writeJson(join(this.folder, name), key === undefined ? text : JSON.stringify(sealBox(text, key, name)))
  }

  /** The lock is there before the first sealed file, and goes after the last: a crash in between loses nothing. */
  async protect(password: string | null): Promise<void> {
    const lock = join(this.folder, LOCK_FILE)
    const names = []
    const anything = z.unknown()
    for (const name of SECRET_FILES) {
      const value = await this.read(name, anything)
      if (value !== undefined) names.push({ name, value })
    }
    if (password !== null) {
      const key = this.#homeKey ?? createSecret(randomBytes(HOME_KEY_BYTES))
      const sealed = await sealWithPassword(key.reveal(), password)
      await writeJson(lock, JSON.stringify({ version: 1, sealed }))
      this.#homeKey = key
    } else {
      this.#homeKey?.wipe()
      this.#homeKey = undefined
    }
    for (const { name, value } of names) await this.write(name, value)
    if (password === null) await rm(lock, { force: true })
  }

  #open(path: string, name: SecretFile, box: z.infer<typeof boxSchema>): unknown {
    if (this.#homeKey === undefined) throw unusable(path, `is sealed, and ${LOCK_FILE} beside it is missing`)
    try {
      return JSON.parse(openBox(box, this.#homeKey, name))
    } catch (cause) {
      throw unusable(path, 'is damaged', cause)
    }
  }
}

/** Undefined: there is no such file. */
async function readJson(path: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
    if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unusable(path, 'cannot be read', cause)
  }
  try {
    return JSON.parse(text)
  } catch {
    // The parser's message would quote the file, and the file is a secret.
    throw unusable(path, 'is damaged')
  }
}

async function writeJson(path: string, text: string): Promise<void> {
  try {
    await writeFileAtomic(path, `${text}\n`, 0o600)
  } catch (cause) {
    throw unusable(path, 'cannot be written', cause)
  }
}

export function unusable(path: string, problem: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('HOME_UNUSABLE', `The key file ${path} ${problem}.`, {
    hint: 'Restore it from a backup or give this user access to it; what it holds cannot be made a second time.',
    ...(cause === undefined ? {} : { cause }),
  })
}
