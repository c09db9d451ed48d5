import type { StatusBody } from '../api/types.ts'
import { type Config, isNetworkName, parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { decodeAddress } from '../p2p/address.ts'
import { encodeInvite, type Invite, parseInvite } from '../p2p/invite.ts'
import { parseMultiaddr } from '../p2p/peer-addrs.ts'
import { findAdmin } from './admin-client.ts'
import { type AddedContact, addContact } from './contacts.ts'
import { type Home, loadConfig, prepareHome, saveConfig } from './home.ts'
import {
  assertNewEnough,
  dropNetworkKey,
  newNetworkKey,
  type ResolvedNetwork,
  resolveNetwork,
  saveNetworkKey,
} from './networks.ts'

export interface MadeInvite {
  readonly line: string
  readonly invite: Invite
}

export interface InviteParts {
  readonly network: ResolvedNetwork
  readonly config: Config
  /** Where this node can be dialled, with /p2p/PEERID. */
  readonly listening: readonly string[]
  /** Of this node; named only together with a petname. */
  readonly address?: string | undefined
  readonly petname?: string | undefined
}

/** This node's own addresses first, then its bootstrap addresses; the model is the first one configured. */
export function makeInvite({ network, config, listening, address, petname }: InviteParts): MadeInvite {
  const known = [...listening, ...config.network.bootstrap].filter((addr) => addr.includes('/p2p/'))
  const invite: Invite = {
    network: network.name,
    preSharedKey: network.preSharedKey,
    bootstrap: [...new Set(known)].slice(0, p2pLimits.inviteAddrs),
    model: config.models.map(({ source }) => source).find(isPublicSource),
    from: address === undefined || petname === undefined ? undefined : { petname, addressKey: decodeAddress(address) },
    minVersion: config.network.minVersion ?? undefined,
  }
  return { invite, line: encodeInvite(invite) }
}

/** The invite of this home; with the addresses of its node when that runs. Throws BAD_CONFIG, BAD_INPUT. */
export async function inviteOf(home: Home, petname: string | undefined): Promise<MadeInvite> {
  const config = await loadConfig(home, { env: process.env })
  const network = await resolveNetwork(home, config)
  const status = await (await findAdmin(home))?.get<StatusBody>('/api/status')
  if (petname !== undefined && status === undefined) {
    throw new LlmNodeError('NOT_RUNNING', 'A petname is given together with the address of a running node.', {
      hint: 'Start the node first: llm-node start',
    })
  }
  return makeInvite({ network, config, listening: status?.listening ?? [], address: status?.address, petname })
}

export interface Joined {
  readonly network: string
  readonly private: boolean
  readonly bootstrap: readonly string[]
  readonly model: string | null
  readonly contact: AddedContact | null
  /** Oldest version of the program that the network accepts. */
  readonly minVersion: string | null
}

/** Makes the network of an invite this home's network. Throws BAD_INPUT, and what keeps its contact from being added. */
export async function joinNetwork(home: Home, line: string): Promise<Joined> {
  const invite = parseInvite(line)
  await prepareHome(home)
  const { minVersion = null } = invite
  assertNewEnough(minVersion, invite.network)
  const config = await loadConfig(home, { env: {} })
  // First what can be refused, such as a petname that already belongs to somebody else.
  const contact = invite.from === undefined ? null : await addContact(home, { ...invite.from, addrs: [] })
  if (invite.preSharedKey === undefined) await dropNetworkKey(home, invite.network)
  else await saveNetworkKey(home, invite.network, invite.preSharedKey)
  const before = config.network.name === invite.network ? config.network.bootstrap : []
  const bootstrap = [...new Set([...invite.bootstrap, ...before])].slice(0, 32)
  const isPrivate = invite.preSharedKey !== undefined
  await saveNetwork(home, config, { name: invite.network, private: isPrivate, bootstrap, minVersion })
  const model = invite.model ?? null
  return { network: invite.network, private: isPrivate, bootstrap, model, contact, minVersion }
}

/** Makes `name` this home's network, with a new key when private. Throws BAD_INPUT. */
export async function foundNetwork(home: Home, name: string, options: { private: boolean }): Promise<void> {
  if (!isNetworkName(name)) {
    throw new LlmNodeError('BAD_INPUT', `"${name}" is no name for a network.`, {
      hint: 'Use 1 to 63 of a-z, 0-9, dot and dash.',
    })
  }
  await prepareHome(home)
  const config = await loadConfig(home, { env: {} })
  if (options.private) await saveNetworkKey(home, name, newNetworkKey())
  else await dropNetworkKey(home, name)
  await saveNetwork(home, config, { name, private: options.private, bootstrap: [], minVersion: null })
}

export async function listBootstrap(home: Home): Promise<readonly string[]> {
  return (await loadConfig(home, { env: {} })).network.bootstrap
}

/** Returns false when it is already there. Throws BAD_INPUT, BAD_CONFIG (more than 32). */
export async function addBootstrap(home: Home, text: string): Promise<boolean> {
  const addr = parseMultiaddr(text.trim()).toString()
  const config = await loadConfig(home, { env: {} })
  if (config.network.bootstrap.includes(addr)) return false
  await saveNetwork(home, config, { bootstrap: [...config.network.bootstrap, addr] })
  return true
}

/** Throws BAD_INPUT when it is not there. */
export async function removeBootstrap(home: Home, text: string): Promise<void> {
  const config = await loadConfig(home, { env: {} })
  const bootstrap = config.network.bootstrap.filter((addr) => addr !== text.trim())
  if (bootstrap.length === config.network.bootstrap.length) {
    throw new LlmNodeError('BAD_INPUT', 'This address is not among the bootstrap addresses.', {
      hint: 'See them with: llm-node bootstrap ls',
    })
  }
  await saveNetwork(home, config, { bootstrap })
}

async function saveNetwork(home: Home, config: Config, change: Partial<Config['network']>): Promise<void> {
  await saveConfig(home, parseConfig({ ...config, network: { ...config.network, ...change } }))
}

/** A folder of this machine, or a server that only this machine reaches, is of no use to a friend. */
function isPublicSource(source: string): boolean {
  if (/^https?:/.test(source)) return !/^https?:\/\/(localhost|127\.|\[::1\])/.test(source)
  return /^[\w.-]+\/[\w.-]+(@[\w.-]+)?$/.test(source)
}
