import { createHash } from 'node:crypto'
import { isMultiaddr, multiaddr } from '@multiformats/multiaddr'
import { ed25519 } from '@noble/curves/ed25519.js'
import { sha3_256 } from '@noble/hashes/sha3.js'
import { concatBytes, equalBytes, toHex, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { createRecentMap } from '../base/recent-map.ts'

/** protocol.md §1: base32lower(PUBKEY32 | CHECKSUM2 | VERSION1), 35 bytes in 56 characters without padding. */
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const SUFFIX = '.llm'
const VERSION = 1
const KEY_BYTES = 32
const TOTAL_BYTES = 35
const TOTAL_CHARACTERS = 56

/** The `.llm` address of an Ed25519 address key (32 bytes). Throws BAD_ADDRESS when the key is no usable point. */
export function encodeAddress(addressKey: Uint8Array): string {
  assertAddressKey(addressKey)
  const bytes = concatBytes(addressKey, checksum(addressKey, VERSION), Uint8Array.of(VERSION))
  return toBase32(bytes) + SUFFIX
}

/** The address key (32 bytes) of a `.llm` address. Spaces around it and upper case are forgiven. Throws BAD_ADDRESS. */
export function decodeAddress(text: string): Uint8Array<ArrayBuffer> {
  const address = text.slice(0, p2pLimits.uriCharacters).trim().toLowerCase()
  if (!address.endsWith(SUFFIX)) {
    throw badAddress('does not end in .llm', 'Copy the whole address: 56 characters followed by .llm.')
  }
  const body = address.slice(0, -SUFFIX.length)
  for (const [index, character] of [...body].entries()) {
    if (ALPHABET.includes(character)) continue
    throw badAddress(
      `has ${JSON.stringify(character)} at position ${index + 1}, which no address contains`,
      'Addresses use the letters a to z and the digits 2 to 7; 0, 1, 8 and 9 never occur.',
    )
  }
  if (body.length !== TOTAL_CHARACTERS) {
    throw badAddress(
      `has ${body.length} characters before .llm instead of ${TOTAL_CHARACTERS}`,
      body.length < TOTAL_CHARACTERS ? 'A part is missing: copy it again.' : 'Something was added: copy it again.',
    )
  }
  const bytes = fromBase32(body)
  const key = bytes.slice(0, KEY_BYTES)
  const version = bytes[TOTAL_BYTES - 1] ?? 0
  if (version !== VERSION) {
    throw badAddress(
      `has version ${version}; this program knows version ${VERSION}`,
      'Update llm-node, or copy it again.',
    )
  }
  if (!equalBytes(bytes.subarray(KEY_BYTES, KEY_BYTES + 2), checksum(key, version))) {
    throw badAddress('has a wrong checksum', 'A character was mistyped or lost: copy it again.')
  }
  assertAddressKey(key)
  if (toBase32(bytes) !== body) throw badAddress('is not written the only allowed way', 'Copy it again.')
  return key
}

export function isAddress(text: string): boolean {
  try {
    decodeAddress(text)
    return true
  } catch {
    return false
  }
}

/** Good keys of late, by their hex text: the look at the order costs 1 ms, and the same peers sign again and again. */
const goodKeys = createRecentMap<true>(p2pLimits.goodKeys)

/** Throws BAD_ADDRESS unless `key` is the canonical encoding of a point of prime order. */
export function assertAddressKey(key: Uint8Array): void {
  if (key.length !== KEY_BYTES) throw badAddress(`key has ${key.length} bytes instead of ${KEY_BYTES}`)
  const name = toHex(key)
  if (goodKeys.get(name)) return
  let usable = false
  try {
    const point = ed25519.Point.fromBytes(key, false)
    usable = !point.isSmallOrder() && point.isTorsionFree() && equalBytes(point.toBytes(), key)
  } catch {
    usable = false
  }
  if (!usable) throw badAddress('holds no valid key', 'It was not made by llm-node: ask its owner for the right one.')
  goodKeys.set(name, true)
}

/** Six groups of five digits, for two people to compare aloud: "05113 57897 …". */
export function safetyNumber(addressKey: Uint8Array): string {
  assertAddressKey(addressKey)
  const digest = createHash('sha512')
    .update(concatBytes(utf8('llm safety number v1'), Uint8Array.of(VERSION), addressKey))
    .digest()
  const groups = Array.from({ length: 6 }, (_, i) => digest.readUIntBE(5 * i, 5) % 100_000)
  return groups.map((group) => String(group).padStart(5, '0')).join(' ')
}

/** A `.llm` address with hints where its node may be reached. */
export interface AddressHint {
  readonly addressKey: Uint8Array
  readonly address: string
  /** Multiaddrs as text, at most p2pLimits.addressesPerPeer. */
  readonly addrs: readonly string[]
}

/** Reads `ADDR.llm`, `llm://ADDR.llm` and `llm://ADDR.llm?a=MULTIADDR&a=…`. Throws BAD_ADDRESS. */
export function parseAddressUri(text: string): AddressHint {
  if (text.length > p2pLimits.uriCharacters) throw badAddress(`is longer than ${p2pLimits.uriCharacters} characters`)
  const [, body = '', query] = /^(?:llm:\/\/)?([^?/]*)\/?(?:\?(.*))?$/is.exec(text.trim()) ?? []
  const addressKey = decodeAddress(body)
  const addrs: string[] = []
  for (const [name, value] of new URLSearchParams(query ?? '')) {
    if (name !== 'a') continue
    if (addrs.length === p2pLimits.addressesPerPeer) {
      throw badAddress(`carries more than ${p2pLimits.addressesPerPeer} hints`)
    }
    addrs.push(checkMultiaddr(value))
  }
  return { addressKey, address: encodeAddress(addressKey), addrs }
}

export function formatAddressUri(addressKey: Uint8Array, addrs: readonly string[]): string {
  const query = addrs.map((addr) => `a=${encodeURIComponent(addr)}`).join('&')
  return `llm://${encodeAddress(addressKey)}${query === '' ? '' : `?${query}`}`
}

function checkMultiaddr(text: string): string {
  try {
    const parsed = multiaddr(text)
    if (isMultiaddr(parsed) && parsed.bytes.length <= p2pLimits.multiaddrBytes) return parsed.toString()
  } catch {
    // Falls through: one message for everything that is no multiaddr.
  }
  throw badAddress(`carries a hint that is no multiaddr: ${JSON.stringify(text.slice(0, 80))}`)
}

function checksum(key: Uint8Array, version: number): Uint8Array {
  return sha3_256(concatBytes(utf8('.llm checksum'), key, Uint8Array.of(version))).subarray(0, 2)
}

/** 35 bytes are 7 groups of 40 bits, each 8 characters: no padding ever. */
function toBase32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += ALPHABET[(value >> bits) & 31]
    }
  }
  return text
}

function fromBase32(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8))
  let bits = 0
  let value = 0
  let offset = 0
  for (const character of text) {
    value = ((value << 5) | ALPHABET.indexOf(character)) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes[offset++] = (value >> bits) & 255
    }
  }
  return bytes
}

function badAddress(problem: string, hint?: string): LlmNodeError {
  return new LlmNodeError('BAD_ADDRESS', `The .llm address ${problem}.`, hint === undefined ? {} : { hint })
}
