import { diffieHellman } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import { type ByteReader, createByteReader, createByteWriter, equalBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { importPrivateKey, importPublicKey } from '../base/raw-keys.ts'
import { assertAddressKey } from './address.ts'
import { multiaddrFromBytes } from './multiaddr-bytes.ts'
import { PEER_ID_BYTES, peerIdFromBytes, peerIdToBytes } from './peer-id-bytes.ts'
import { appendSignature, hasSignature, SIGNATURE_BYTES } from './signing.ts'

/** A signed statement: this `.llm` address is reachable here (swarm.md §2). */
export interface ContactRecord {
  /** Reserved, 0. */
  readonly flags: number
  /** Ed25519, 32 bytes. */
  readonly addressKey: Uint8Array
  readonly sequence: number
  /** Unix ms. */
  readonly issuedMs: number
  readonly expiresMs: number
  /** X25519, 32 bytes. */
  readonly onionKey: Uint8Array
  /** Unix ms from which the onion key is no longer answered. */
  readonly onionKeyEndsMs: number
  /** Transport PeerId as text. */
  readonly peerId: string
  /** Multiaddrs as text, at most 6. */
  readonly addrs: readonly string[]
  /** Address keys of nodes of the same owner, at most 4: no circuit uses two of them. */
  readonly familyKeys: readonly Uint8Array[]
}

const VERSION = 1
const LABEL = 'llm contact v1'
/** Any scalar will do to see that a key is no low-order point. */
const PROBE = importPrivateKey(new Uint8Array(32).fill(0x55))

/** The record's bytes with its signature, ≤1,536. Throws BAD_INPUT on what the format cannot hold. */
export function encodeContactRecord(
  record: ContactRecord,
  by: { network: string; sign: (message: Uint8Array) => Uint8Array },
): Uint8Array<ArrayBuffer> {
  if (record.addrs.length > p2pLimits.addressesPerPeer || record.familyKeys.length > p2pLimits.familyKeys) {
    throw new LlmNodeError('BAD_INPUT', 'A contact record holds at most 6 addresses and 4 family keys.')
  }
  const writer = createByteWriter()
    .u8(VERSION)
    .u8(record.flags)
    .bytes(fixed(record.addressKey, 32, 'address key'))
    .u64(record.sequence)
    .u64(record.issuedMs)
    .u64(record.expiresMs)
    .bytes(fixed(record.onionKey, 32, 'onion key'))
    .u64(record.onionKeyEndsMs)
    .bytes(peerIdToBytes(record.peerId))
    .u8(record.addrs.length)
  for (const text of record.addrs) {
    const { bytes } = multiaddr(text)
    if (bytes.length > p2pLimits.multiaddrBytes) throw new LlmNodeError('BAD_INPUT', `${text} is too long.`)
    writer.u8(bytes.length).bytes(bytes)
  }
  writer.u8(record.familyKeys.length)
  for (const key of record.familyKeys) writer.bytes(fixed(key, 32, 'family key'))
  return appendSignature(writer.finish(), { label: LABEL, network: by.network, sign: by.sign })
}

/**
 * Reads and checks a record: size, form, keys, times, signature. Fails closed with BAD_RECORD that says why. Whether the
 * sequence is above the highest seen is the caller's to check (seen-records.ts).
 */
export function verifyContactRecord(
  bytes: Uint8Array,
  options: { network: string; nowMs: number; addressKey?: Uint8Array },
): ContactRecord {
  if (bytes.length > p2pLimits.contactRecordBytes) throw bad(`has ${bytes.length} bytes`)
  if (bytes.length < SIGNATURE_BYTES) throw bad('is cut off')
  const record = parse(createByteReader(bytes.subarray(0, -SIGNATURE_BYTES), 'Contact record'))
  if (options.addressKey !== undefined && !equalBytes(options.addressKey, record.addressKey)) {
    throw bad('belongs to another address')
  }
  checkTimes(record, options.nowMs)
  checkKeys(record)
  if (!hasSignature(bytes, { label: LABEL, network: options.network, addressKey: record.addressKey })) {
    throw bad('is not signed by its address in this network')
  }
  return record
}

function parse(reader: ByteReader): ContactRecord {
  const version = reader.u8('version')
  if (version !== VERSION) throw bad(`has version ${version}`)
  const flags = reader.u8('flags')
  const addressKey = reader.bytes(32, 'address key')
  const sequence = safeNumber(reader, 'sequence')
  const issuedMs = safeNumber(reader, 'issued')
  const expiresMs = safeNumber(reader, 'expires')
  const onionKey = reader.bytes(32, 'onion key')
  const onionKeyEndsMs = safeNumber(reader, 'onion key end')
  const peerId = peerIdFromBytes(reader.bytes(PEER_ID_BYTES, 'PeerId'))
  const nAddrs = reader.u8('addresses')
  if (nAddrs > p2pLimits.addressesPerPeer) throw bad(`has ${nAddrs} addresses`)
  const addrs = Array.from({ length: nAddrs }, () => readAddr(reader))
  const nFamily = reader.u8('family')
  if (nFamily > p2pLimits.familyKeys) throw bad(`has ${nFamily} family keys`)
  const familyKeys = Array.from({ length: nFamily }, () => reader.bytes(32, 'family key'))
  reader.end()
  return { flags, addressKey, sequence, issuedMs, expiresMs, onionKey, onionKeyEndsMs, peerId, addrs, familyKeys }
}

function readAddr(reader: ByteReader): string {
  const length = reader.u8('address length')
  if (length === 0 || length > p2pLimits.multiaddrBytes) throw bad(`has an address of ${length} bytes`)
  return multiaddrFromBytes(reader.bytes(length, 'address'))
}

function checkTimes(record: ContactRecord, nowMs: number): void {
  const { issuedMs, expiresMs } = record
  if (expiresMs <= issuedMs) throw bad('expires before it was issued')
  if (expiresMs - issuedMs > p2pLimits.contactLifetimeMs) throw bad('is valid for longer than 12 hours')
  if (issuedMs > nowMs + p2pLimits.clockSkewMs) throw badTime('was issued in the future')
  if (expiresMs + p2pLimits.clockSkewMs <= nowMs) throw badTime('has expired')
  if (record.onionKeyEndsMs + p2pLimits.clockSkewMs <= nowMs) throw badTime('names an onion key that has ended')
}

function checkKeys(record: ContactRecord): void {
  try {
    assertAddressKey(record.addressKey)
    for (const key of record.familyKeys) assertAddressKey(key)
  } catch (cause) {
    throw new LlmNodeError('BAD_RECORD', 'The contact record holds a key that is no valid point.', { cause })
  }
  if (isLowOrder(record.onionKey)) throw bad('has a low-order onion key')
}

/** OpenSSL refuses such points by itself; that must not depend on its version. */
function isLowOrder(onionKey: Uint8Array): boolean {
  try {
    const shared = diffieHellman({ privateKey: PROBE, publicKey: importPublicKey('x25519', onionKey) })
    return shared.every((byte) => byte === 0)
  } catch {
    return true
  }
}

function safeNumber(reader: ByteReader, field: string): number {
  const value = reader.u64(field)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(`has an impossible ${field}`)
  return Number(value)
}

function fixed(bytes: Uint8Array, length: number, field: string): Uint8Array {
  if (bytes.length !== length) throw new LlmNodeError('BAD_INPUT', `The ${field} has ${bytes.length} bytes.`)
  return bytes
}

function bad(problem: string): LlmNodeError {
  return new LlmNodeError('BAD_RECORD', `The contact record ${problem}.`)
}

/** Meta `clock`: which of the two clocks is wrong nobody knows, so that this is no fault of the sender. */
function badTime(problem: string): LlmNodeError {
  return new LlmNodeError('BAD_RECORD', `The contact record ${problem}.`, { meta: { clock: true } })
}
