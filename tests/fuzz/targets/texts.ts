import { createHash } from 'node:crypto'
import { sha3_256 } from '@noble/hashes/sha3.js'
import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import {
  decodeAddress,
  encodeAddress,
  formatAddressUri,
  isAddress,
  parseAddressUri,
  safetyNumber,
} from '../../../src/p2p/address.ts'
import { encodeInvite, parseInvite } from '../../../src/p2p/invite.ts'
import { type FuzzTarget, promise, resized, sameBytes, unlessRefused } from '../target.ts'

/** RFC 8032 §7.1, tests 1 and 2. */
const KEYS = [
  'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
  '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
].map((hex) => Uint8Array.from(Buffer.from(hex, 'hex')))
const ADDRS = ['/ip4/192.0.2.1/tcp/4001', '/ip6/2001:db8::7/udp/4001/quic-v1']

function base32(bytes: Uint8Array): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return (bits.match(/.{5}/g) ?? [])
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[Number.parseInt(five, 2)])
    .join('')
}

function checkUri(text: string): void {
  const hint = unlessRefused(['BAD_ADDRESS'], () => parseAddressUri(text))
  const key = unlessRefused(['BAD_ADDRESS'], () => decodeAddress(text))
  promise(isAddress(text) === (key !== undefined), 'isAddress agrees with decodeAddress')
  if (key !== undefined) {
    const written = encodeAddress(key)
    promise(written === text.trim().toLowerCase(), 'an address has one spelling')
    promise(hint !== undefined && sameBytes(hint.addressKey, key), 'an address is a URI, too')
    promise(/^(\d{5} ){5}\d{5}$/.test(safetyNumber(key)), 'an address has a safety number')
  }
  if (hint === undefined) return
  const again = parseAddressUri(formatAddressUri(hint.addressKey, hint.addrs))
  promise(
    JSON.stringify(again.addrs) === JSON.stringify(hint.addrs) && again.address === hint.address,
    'a URI survives writing and reading',
  )
}

/** Input: mode 1. 0: UTF-8 text. 1: 32 bytes of key and a version, for which the checksum is made, and a query. */
export const addressTarget: FuzzTarget = {
  name: 'address',
  maxBytes: 4_200,
  maxAllocated: (length) => 262_144 + 512 * length,
  seeds: () => [
    ...KEYS.flatMap((key) =>
      [encodeAddress(key), `llm://${encodeAddress(key)}`, formatAddressUri(key, ADDRS)].map((text) =>
        concatBytes(Uint8Array.of(0), utf8(text)),
      ),
    ),
    ...KEYS.map((key) => concatBytes(Uint8Array.of(1), key, Uint8Array.of(1), utf8('?a=/ip4/192.0.2.1/tcp/4001'))),
    // Small order, torsion, and a second encoding of one point.
    ...[0, 1, 0x80].map((first) => concatBytes(Uint8Array.of(1, first), new Uint8Array(31), Uint8Array.of(1))),
  ],
  run(input) {
    const bytes = input.subarray(1)
    checkUri(Buffer.from(bytes).toString('utf8'))
    if ((input[0] ?? 0) % 2 === 0) return
    const key = resized(bytes, 32)
    const version = bytes[32] ?? 1
    const checksum = sha3_256(concatBytes(utf8('.llm checksum'), key, Uint8Array.of(version))).subarray(0, 2)
    const text = `${base32(concatBytes(key, checksum, Uint8Array.of(version)))}.llm`
    const query = Buffer.from(bytes.subarray(33)).toString('utf8')
    checkUri(`llm://${text}${query}`)
    checkUri(text)
    const decoded = unlessRefused(['BAD_ADDRESS'], () => decodeAddress(text))
    promise(decoded === undefined || (version === 1 && sameBytes(decoded, key)), 'an address gives back its key')
  },
}

/** Input: mode 1. 0: the line as text. 1: the body, for which the checksum is made. */
export const inviteTarget: FuzzTarget = {
  name: 'invite',
  maxBytes: 2_600,
  maxAllocated: (length) => 262_144 + 512 * length,
  seeds: () => {
    const peer = 'p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
    const bootstrap = ADDRS.map((addr) => `${addr}/${peer}`)
    const [addressKey = new Uint8Array(32)] = KEYS
    const lines = [
      encodeInvite({ network: 'friends', bootstrap: [] }),
      encodeInvite({
        network: 'friends',
        bootstrap,
        preSharedKey: createSecret(new Uint8Array(32).fill(1)),
        model: 'Qwen/Qwen3-0.6B',
        from: { petname: 'Ada', addressKey },
      }),
    ]
    const bodies = lines.map((line) => Buffer.from(line.slice('llm-invite:'.length), 'base64url').subarray(0, -4))
    return [
      ...lines.map((line) => concatBytes(Uint8Array.of(0), utf8(line))),
      ...bodies.map((body) => concatBytes(Uint8Array.of(1), body)),
    ]
  },
  run(input) {
    const bytes = input.subarray(1)
    const isBody = (input[0] ?? 0) % 2 === 1
    const check = createHash('sha256').update('llm invite v1').update(bytes).digest().subarray(0, 4)
    const line = isBody
      ? `llm-invite:${Buffer.concat([bytes, check]).toString('base64url')}`
      : Buffer.from(bytes).toString('utf8')
    const invite = unlessRefused(['BAD_INPUT'], () => parseInvite(line))
    if (invite === undefined) return
    const shown = `${invite.network}${invite.model ?? ''}${invite.from?.petname ?? ''}`
    promise(!/[\p{Cc}\p{Cf}]/u.test(shown), 'nothing that is shown can rewrite a terminal')
    promise(encodeInvite(invite) === line.trim(), 'an invite has one spelling')
  },
}
