import { createHash, createHmac } from 'node:crypto'
import { concatBytes, createByteWriter, toHex, utf8 } from '../base/bytes.ts'

/** ENCAP of protocol.md §2: u64 length, then the bytes. */
export function encap(text: string): Uint8Array<ArrayBuffer> {
  const bytes = utf8(text)
  return createByteWriter().u64(bytes.length).bytes(bytes).finish()
}

/** VER of protocol.md §2: the network's name, in a private network with a fingerprint of its key. */
export function networkVersion(name: string, preSharedKey?: Uint8Array): string {
  if (preSharedKey === undefined) return name
  const fingerprint = createHmac('sha256', preSharedKey).update('llm/net').digest().subarray(0, 8)
  return `${name}#${toHex(fingerprint)}`
}

/** 8 bytes that open every exchange, so that peers of another network part at once and politely. */
export function networkTag(version: string): Uint8Array<ArrayBuffer> {
  return createHash('sha256')
    .update(concatBytes(utf8('llm network v1'), encap(version)))
    .digest()
    .subarray(0, 8)
}

/**
 * mDNS service of one network. A label holds at most 63 bytes and no arbitrary characters (RFC 1035 §2.3.4), so the
 * name goes in as 10 hexadecimal digits of its hash: `_llm-node-0123456789._udp.local`.
 */
export function mdnsServiceTag(version: string): string {
  return `_llm-node-${toHex(networkTag(version).subarray(0, 5))}._udp.local`
}
