import { createHash, randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { ApiKey, KeyFinder } from '../api/access.ts'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { apiLimits } from '../base/limits.ts'
import type { Home } from './home.ts'

/**
 * A secret has 256 random bits, so its plain SHA-256 gives nothing away; passwords, which people choose, would need a
 * slow hash.
 */
const storedKey = z.strictObject({
  id: z.string(),
  name: z.string(),
  sha256: z.string().length(64),
  createdMs: z.int(),
  requestsPerMinute: z.int().min(1).nullable(),
  tokensPerMinute: z.int().min(1).nullable(),
})

const keyFile = z.strictObject({ version: z.literal(1), keys: z.array(storedKey).max(apiLimits.keys) })

type StoredKey = z.output<typeof storedKey>

/** What `keys ls` shows: nothing with which one could come in. */
export type ListedKey = Omit<StoredKey, 'sha256'>

export interface NewKeyOptions {
  readonly name: string
  readonly requestsPerMinute: number | null
  readonly tokensPerMinute: number | null
}

const pathOf = (home: Home) => join(home.keysFolder, 'api-keys.json')
const hashOf = (secret: string) => createHash('sha256').update(secret).digest('hex')

/** Makes a key and keeps its hash. The secret is told this once. Throws BAD_INPUT on a name in use. */
export async function addApiKey(home: Home, options: NewKeyOptions): Promise<{ key: ListedKey; secret: string }> {
  const { name } = options
  const fits = /^[\w.@-]+$/.test(name) && name.length <= apiLimits.keyNameCharacters
  assertInput(fits, `A name has 1 to ${apiLimits.keyNameCharacters} letters, digits, dots, dashes, @ and _.`)
  for (const limit of [options.requestsPerMinute, options.tokensPerMinute]) {
    assertInput(limit === null || (Number.isSafeInteger(limit) && limit > 0), `${limit} is no limit: give 1 or more.`)
  }
  const keys = await readKeys(home)
  assertInput(!keys.some((key) => key.name === name), `There is a key "${name}" already.`)
  assertInput(keys.length < apiLimits.keys, `A home keeps ${apiLimits.keys} keys at most.`)
  const secret = `llmn-${randomBytes(32).toString('base64url')}`
  const key: ListedKey = {
    id: randomBytes(8).toString('hex'),
    name,
    createdMs: Date.now(),
    requestsPerMinute: options.requestsPerMinute,
    tokensPerMinute: options.tokensPerMinute,
  }
  await writeKeys(home, [...keys, { ...key, sha256: hashOf(secret) }])
  return { key, secret }
}

/** Takes a key away; a running node refuses it from now on. Throws BAD_INPUT when there is none of this name. */
export async function removeApiKey(home: Home, name: string): Promise<void> {
  const keys = await readKeys(home)
  if (!keys.some((key) => key.name === name)) {
    throw new LlmNodeError('BAD_INPUT', `There is no key "${name}".`, { hint: 'llm-node keys ls lists them.' })
  }
  await writeKeys(
    home,
    keys.filter((key) => key.name !== name),
  )
}

export async function listApiKeys(home: Home): Promise<ListedKey[]> {
  const keys = await readKeys(home)
  return keys.map(({ sha256: _, ...key }) => key)
}

/** Finds keys in the file as it is at that moment; it is read again only when it has changed. */
export function createKeyFinder(home: Home): KeyFinder {
  let seen = ''
  let byHash: ReadonlyMap<string, ApiKey> = new Map()
  return {
    async find(secret) {
      const version = await stat(pathOf(home), { bigint: true }).then(
        ({ mtimeNs, ino, size }) => `${mtimeNs} ${ino} ${size}`,
        () => '',
      )
      if (version !== seen) {
        byHash = new Map((await readKeys(home)).map((key) => [key.sha256, key]))
        seen = version
      }
      return byHash.get(hashOf(secret))
    },
  }
}

async function readKeys(home: Home): Promise<StoredKey[]> {
  let text: string
  try {
    text = await readFile(pathOf(home), 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(home, cause)
  }
  try {
    return keyFile.parse(JSON.parse(text)).keys
  } catch (cause) {
    throw unreadable(home, cause)
  }
}

function unreadable(home: Home, cause: unknown): LlmNodeError {
  return new LlmNodeError('HOME_UNUSABLE', `${pathOf(home)} cannot be read.`, {
    hint: 'Give this user access to it; if it is damaged, remove it and make new keys with llm-node keys add.',
    cause,
  })
}

async function writeKeys(home: Home, keys: readonly StoredKey[]): Promise<void> {
  await writeFileAtomic(pathOf(home), `${JSON.stringify({ version: 1, keys }, null, 2)}\n`, 0o600)
}
