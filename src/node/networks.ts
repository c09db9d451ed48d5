import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { fromHex, toHex } from '../base/bytes.ts'
import { type Config, isNetworkName } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { compareVersions, updateCommand } from '../base/version.ts'
import { openKeyFiles } from '../p2p/key-files.ts'
import { networkVersion } from '../p2p/network.ts'
import type { Home } from './home.ts'
import { keyPassword } from './identity.ts'
import { nodeVersion } from './version.ts'

/** The network a node takes part in. */
export interface ResolvedNetwork {
  readonly name: string
  /** VER of protocol.md §2. */
  readonly version: string
  readonly preSharedKey: Secret | undefined
}

const keyFile = z.strictObject({
  version: z.literal(1),
  keys: z
    .array(z.strictObject({ name: z.string().refine(isNetworkName), key: z.string().regex(/^[0-9a-f]{64}$/) }))
    .max(p2pLimits.networkKeys),
})
type StoredKeys = z.infer<typeof keyFile>['keys']

/** Throws VERSION_TOO_OLD with the command that updates this program. */
export function assertNewEnough(minVersion: string | null, network: string): void {
  const version = nodeVersion()
  if (minVersion === null || compareVersions(version, minVersion) >= 0) return
  throw new LlmNodeError(
    'VERSION_TOO_OLD',
    `The network ${network} needs llm-node ${minVersion}; this is ${version}.`,
    {
      hint: `Update it: ${updateCommand}`,
      meta: { minVersion, version },
    },
  )
}

/**
 * The configured network with its key. Throws VERSION_TOO_OLD, and BAD_CONFIG when it is private and the key is missing: a node that is meant
 * for a closed circle never joins an open network of the same name.
 */
export async function resolveNetwork(home: Home, config: Config): Promise<ResolvedNetwork> {
  const { name, minVersion } = config.network
  assertNewEnough(minVersion, name)
  const stored = (await readKeys(home)).find((entry) => entry.name === name)
  if (stored === undefined && config.network.private) {
    throw new LlmNodeError('BAD_CONFIG', `The network ${name} is private, and its key is not here.`, {
      hint: 'Join with the invite of a member: llm-node join INVITE',
      meta: { field: 'network.private' },
    })
  }
  const preSharedKey = stored === undefined ? undefined : createSecret(fromHex(stored.key))
  return { name, version: networkVersion(name, preSharedKey?.reveal()), preSharedKey }
}

/** Keeps the key of a private network, 0600. Another key for the same name replaces it. Throws LIMIT, HOME_UNUSABLE. */
export async function saveNetworkKey(home: Home, name: string, key: Secret): Promise<void> {
  const others = (await readKeys(home)).filter((entry) => entry.name !== name)
  if (others.length >= p2pLimits.networkKeys) {
    throw new LlmNodeError('LIMIT', `This home already keeps the keys of ${others.length} networks.`)
  }
  await writeKeys(home, [...others, { name, key: toHex(key.reveal()) }])
}

/** Forgets a key: the network of that name is an open one from now on. */
export async function dropNetworkKey(home: Home, name: string): Promise<void> {
  const keys = await readKeys(home)
  const others = keys.filter((entry) => entry.name !== name)
  if (others.length === keys.length) return
  await writeKeys(home, others)
}

export function newNetworkKey(): Secret {
  return createSecret(new Uint8Array(randomBytes(32)))
}

async function readKeys(home: Home): Promise<StoredKeys> {
  const files = await openKeyFiles(home.keysFolder, keyPassword())
  return (await files.read('networks.json', keyFile))?.keys ?? []
}

async function writeKeys(home: Home, keys: StoredKeys): Promise<void> {
  const files = await openKeyFiles(home.keysFolder, keyPassword())
  await files.write('networks.json', { version: 1, keys })
}
