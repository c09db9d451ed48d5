import { readFile } from 'node:fs/promises'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { decodeAddress, encodeAddress, safetyNumber } from '../p2p/address.ts'
import { type Identity, loadOrCreateIdentity } from '../p2p/identity.ts'
import { exportKeys, importKeys, protectKeys } from '../p2p/keystore.ts'
import { findAdmin } from './admin-client.ts'
import { type Home, prepareHome } from './home.ts'

export interface IdentityDescription {
  readonly address: string
  /** Six groups to compare aloud. */
  readonly safetyNumber: string
  /** Null for the address of somebody else. */
  readonly peerId: string | null
}

/** The keys of a home, made when it has none; a protected one is opened with LLM_NODE_KEY_PASSWORD. */
export function openIdentity(home: Home): Promise<Identity> {
  return loadOrCreateIdentity(home.keysFolder, { nowMs: Date.now(), password: keyPassword() })
}

/** Of this home (made when it has none yet), or of `address` after checking it. Throws BAD_ADDRESS, HOME_UNUSABLE. */
export async function describeIdentity(home: Home, address: string | undefined): Promise<IdentityDescription> {
  if (address !== undefined) {
    const key = decodeAddress(address)
    return { address: encodeAddress(key), safetyNumber: safetyNumber(key), peerId: null }
  }
  await prepareHome(home)
  return describe(await openIdentity(home))
}

/** A new onion key at once; the old one is answered for one day more. */
export async function rotateIdentity(home: Home): Promise<IdentityDescription> {
  await requireStopped(home)
  await prepareHome(home)
  const identity = await openIdentity(home)
  await identity.rotateOnionKey(Date.now(), { now: true })
  return describe(identity)
}

/** Writes a new file, 0600. Throws BAD_INPUT when it is there already. */
export async function exportIdentity(home: Home, file: string, password: string): Promise<void> {
  const taken = await readFile(file).then(
    () => true,
    () => false,
  )
  if (taken) throw new LlmNodeError('BAD_INPUT', `${file} is there already.`, { hint: 'Name a new file.' })
  await writeFileAtomic(file, await exportKeys(home.keysFolder, { password, current: keyPassword() }), 0o600)
}

export async function importIdentity(home: Home, file: string, password: string): Promise<IdentityDescription> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new LlmNodeError('BAD_INPUT', `${file} cannot be read.`, { hint: 'Is the name right?', cause })
  })
  await prepareHome(home)
  await importKeys(home.keysFolder, text, { password, current: keyPassword() })
  return describe(await openIdentity(home))
}

/** `password` null: takes the protection away. */
export async function protectIdentity(home: Home, password: string | null): Promise<void> {
  await requireStopped(home)
  await protectKeys(home.keysFolder, { password, current: keyPassword() })
}

/** A running node has its keys in memory and would go on with the old ones. */
async function requireStopped(home: Home): Promise<void> {
  if ((await findAdmin(home)) === undefined) return
  throw new LlmNodeError('HOME_IN_USE', 'A node runs on this home.', { hint: 'Stop it first: llm-node stop' })
}

/** Of the keys; never from a flag or a file, which others could read. */
export function keyPassword(): string | undefined {
  return process.env.LLM_NODE_KEY_PASSWORD
}

function describe(identity: Identity): IdentityDescription {
  return { address: identity.address, safetyNumber: safetyNumber(identity.addressKey), peerId: identity.peerId }
}
