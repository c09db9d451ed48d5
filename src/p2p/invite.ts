import { createHash } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import {
  type ByteReader,
  concatBytes,
  createByteReader,
  createByteWriter,
  equalBytes,
  fromUtf8,
  utf8,
} from '../base/bytes.ts'
import { isNetworkName } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { isVersion } from '../base/version.ts'
import { assertAddressKey } from './address.ts'
import { multiaddrFromBytes } from './multiaddr-bytes.ts'
import { isPetname } from './petname.ts'

/** All that a friend needs to join: one line. */
export interface Invite {
  /** Name of the network. */
  readonly network: string
  /** Of a private network: whoever holds it is a member. */
  readonly preSharedKey?: Secret | undefined
  /** Multiaddrs with /p2p/PEERID, at most p2pLimits.inviteAddrs. */
  readonly bootstrap: readonly string[]
  /** Where the model's files come from, as for `setup --model`. */
  readonly model?: string | undefined
  /** Who invites: the address key and the name that it goes by. */
  readonly from?: { readonly petname: string; readonly addressKey: Uint8Array } | undefined
  /** Oldest version of the program that the network accepts. */
  readonly minVersion?: string | undefined
}

/**
 * "llm-invite:" | base64url(version1 | flags1 | name | [key32] | nAddr1 (addr)* | model | [petname | addressKey32] | [minVersion] |
 * check4),
 * texts and addresses with a length byte; check = the first 4 bytes of SHA-256("llm invite v1" | all before).
 */
const PREFIX = 'llm-invite:'
const VERSION = 1
const KEY_BYTES = 32
const CHECK_BYTES = 4
const HAS_KEY = 1
const HAS_SENDER = 2
const HAS_MIN_VERSION = 4

/** Throws BAD_INPUT on what the format cannot hold. */
export function encodeInvite(invite: Invite): string {
  const { network, preSharedKey, bootstrap, model = '', from, minVersion } = invite
  if (bootstrap.length > p2pLimits.inviteAddrs) {
    throw new LlmNodeError('BAD_INPUT', `An invite holds at most ${p2pLimits.inviteAddrs} addresses.`)
  }
  const writer = createByteWriter()
    .u8(VERSION)
    .u8(
      (preSharedKey === undefined ? 0 : HAS_KEY) |
        (from === undefined ? 0 : HAS_SENDER) |
        (minVersion === undefined ? 0 : HAS_MIN_VERSION),
    )
  const short = (bytes: Uint8Array) => writer.u8(bytes.length).bytes(bytes)
  short(utf8(network))
  if (preSharedKey !== undefined) writer.bytes(preSharedKey.reveal())
  writer.u8(bootstrap.length)
  for (const text of bootstrap) short(multiaddr(text).bytes)
  short(utf8(model))
  if (from !== undefined) {
    short(utf8(from.petname))
    writer.bytes(from.addressKey)
  }
  if (minVersion !== undefined) short(utf8(minVersion))
  const body = writer.finish()
  const line = PREFIX + Buffer.from(concatBytes(body, checkOf(body))).toString('base64url')
  // What this program writes it must be able to read.
  parseInvite(line)
  return line
}

/** Reads one line as a person pastes it: spaces around it are forgiven, nothing else. Throws BAD_INPUT that says why. */
export function parseInvite(text: string): Invite {
  const line = text.slice(0, p2pLimits.inviteCharacters + 64).trim()
  if (line.length > p2pLimits.inviteCharacters) throw bad('is too long')
  if (!line.startsWith(PREFIX)) throw bad(`does not begin with ${PREFIX}`)
  const encoded = line.slice(PREFIX.length)
  const bytes = new Uint8Array(Buffer.from(encoded, 'base64url'))
  if (Buffer.from(bytes).toString('base64url') !== encoded) throw bad('has characters that no invite contains')
  if (bytes.length < CHECK_BYTES) throw bad('is cut off')
  const body = bytes.subarray(0, -CHECK_BYTES)
  if (!equalBytes(checkOf(body), bytes.subarray(-CHECK_BYTES))) throw bad('has a wrong checksum')
  try {
    return parseBody(createByteReader(body, 'Invite'))
  } catch (cause) {
    if (cause instanceof LlmNodeError && cause.code === 'BAD_INPUT') throw cause
    throw bad('is malformed', cause)
  }
}

function parseBody(reader: ByteReader): Invite {
  const version = reader.u8('version')
  if (version !== VERSION) throw bad(`has version ${version}; this program knows version ${VERSION}`)
  const flags = reader.u8('flags')
  if (flags > (HAS_KEY | HAS_SENDER | HAS_MIN_VERSION)) throw bad('asks for something that this program does not know')
  const network = readText(reader, 'network')
  if (!isNetworkName(network)) throw bad('names no valid network')
  const preSharedKey = (flags & HAS_KEY) === 0 ? undefined : createSecret(reader.bytes(KEY_BYTES, 'key').slice())
  const nAddrs = reader.u8('addresses')
  if (nAddrs > p2pLimits.inviteAddrs) throw bad(`holds ${nAddrs} addresses`)
  const bootstrap = Array.from({ length: nAddrs }, () => readAddr(reader))
  const model = readText(reader, 'model')
  const from = (flags & HAS_SENDER) === 0 ? undefined : readSender(reader)
  const minVersion = (flags & HAS_MIN_VERSION) === 0 ? undefined : readText(reader, 'version')
  if (minVersion !== undefined && !isVersion(minVersion)) throw bad('asks for a version that is none')
  reader.end()
  return { network, preSharedKey, bootstrap, model: model === '' ? undefined : model, from, minVersion }
}

function readSender(reader: ByteReader): { petname: string; addressKey: Uint8Array } {
  const petname = readText(reader, 'petname')
  if (!isPetname(petname)) throw bad('carries a petname that is none')
  const addressKey = reader.bytes(KEY_BYTES, 'address key').slice()
  assertAddressKey(addressKey)
  return { petname, addressKey }
}

function readAddr(reader: ByteReader): string {
  const length = reader.u8('address length')
  if (length > p2pLimits.multiaddrBytes) throw bad(`holds an address of ${length} bytes`)
  const text = multiaddrFromBytes(reader.bytes(length, 'address'))
  // Without it anybody on the way could pose as the bootstrap node.
  if (multiaddr(text).getComponents().at(-1)?.name !== 'p2p') throw bad('holds an address without a PeerId')
  return text
}

function readText(reader: ByteReader, field: string): string {
  const text = fromUtf8(reader.bytes(reader.u8(`${field} length`), field))
  // Shown to people: no control characters that could rewrite a terminal.
  if (/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u.test(text)) throw bad(`has a ${field} with invisible characters`)
  return text
}

function checkOf(body: Uint8Array): Uint8Array {
  return createHash('sha256').update('llm invite v1').update(body).digest().subarray(0, CHECK_BYTES)
}

function bad(problem: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('BAD_INPUT', `The invite ${problem}.`, {
    hint: 'Copy the whole line again, or ask for a new one: llm-node invite',
    ...(cause === undefined ? {} : { cause }),
  })
}
