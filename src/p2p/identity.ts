import { generateKeyPairSync, hkdfSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { z } from 'zod'
import { fromHex, toHex } from '../base/bytes.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { encodeAddress } from './address.ts'
import { openKeyFiles, unusable } from './key-files.ts'

const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const onionKeySchema = z.strictObject({ private: hex32, createdMs: z.number().int().nonnegative() })
export const addressSchema = z.strictObject({ version: z.literal(1), seed: hex32 })
export const transportSchema = z.strictObject({
  version: z.literal(1),
  private: z.string().regex(/^([0-9a-f]{2}){16,512}$/),
})
const onionSchema = z.strictObject({
  version: z.literal(1),
  current: onionKeySchema,
  previous: onionKeySchema.nullable(),
})
type StoredOnionKey = z.infer<typeof onionKeySchema>
type StoredOnion = Omit<z.infer<typeof onionSchema>, 'version'>

/** protocol.md §1: the onion key changes weekly, the old one is answered for one day more. */
const ONION_PERIOD_MS = 7 * 86_400_000
const ONION_GRACE_MS = 86_400_000

export interface OnionKeyPair {
  /** X25519, 32 bytes. */
  readonly publicKey: Uint8Array
  readonly privateKey: Secret
  /** Unix ms from which this key is no longer answered. */
  readonly endsMs: number
}

/** A node's three kinds of keys. Printing it shows no secret. */
export interface Identity {
  /** Ed25519 address key, 32 bytes. */
  readonly addressKey: Uint8Array
  /** The `.llm` address of it. */
  readonly address: string
  /** Transport PeerId as text. Its key is another one than the address key. */
  readonly peerId: string
  /** libp2p's protobuf encoding of the transport's private key. */
  readonly transportKey: Secret
  /** Ed25519 signature (64 bytes) by the address key. */
  sign(message: Uint8Array): Uint8Array
  /** 32 bytes that only this identity can make, another key for each purpose. */
  deriveKey(purpose: string): Secret
  /** The current onion key first, then the previous one while it is still answered. */
  onionKeys(nowMs: number): readonly [OnionKeyPair, ...OnionKeyPair[]]
  /**
   * Makes a new onion key when the current one is a week old, or `now`, and forgets one that is no longer answered. True
   * when there is a new one: publish a new contact record then.
   */
  rotateOnionKey(nowMs: number, options?: { now?: boolean }): Promise<boolean>
}

/**
 * The keys in `folder`, made on first use: address.json, transport.json, onion.json (key-files.ts). A key that is there
 * but cannot be read is never replaced: HOME_UNUSABLE, because a new address would lose the old one. Throws AUTH_FAILED
 * without the password of a protected folder.
 */
export async function loadOrCreateIdentity(
  folder: string,
  options: { nowMs: number; password?: string | undefined },
): Promise<Identity> {
  const files = await openKeyFiles(folder, options.password)
  const address = await files.readOrCreate('address.json', addressSchema, async () => ({
    version: 1 as const,
    seed: randomBytes(32).toString('hex'),
  }))
  const transport = await files.readOrCreate('transport.json', transportSchema, async () => ({
    version: 1 as const,
    private: toHex(privateKeyToProtobuf(await generateKeyPair('Ed25519'))),
  }))
  const onion = await files.readOrCreate('onion.json', onionSchema, async () => ({
    version: 1 as const,
    current: newOnionKey(options.nowMs),
    previous: null,
  }))
  const identity = buildIdentity(
    { addressSeed: address.seed, transport: transport.private, onion, folder },
    async (keys) => await files.write('onion.json', { version: 1, ...keys }),
  )
  await identity.rotateOnionKey(options.nowMs)
  return identity
}

interface StoredKeys {
  readonly addressSeed: string
  readonly transport: string
  readonly onion: StoredOnion
  readonly folder: string
}

function buildIdentity(stored: StoredKeys, saveOnion: (keys: StoredOnion) => Promise<void>): Identity {
  const seed = createSecret(fromHex(stored.addressSeed))
  const addressKey = ed25519.getPublicKey(seed.reveal())
  const transportKey = createSecret(fromHex(stored.transport))
  let onion = stored.onion
  let pairs = toPairs(onion)
  return {
    addressKey,
    address: encodeAddress(addressKey),
    peerId: peerIdOf(transportKey, join(stored.folder, 'transport.json')),
    transportKey,
    sign: (message) => ed25519.sign(message, seed.reveal()),
    deriveKey: (purpose) =>
      createSecret(new Uint8Array(hkdfSync('sha256', seed.reveal(), '', `llm-node derived key ${purpose}`, 32))),
    onionKeys(nowMs) {
      const [current, previous] = pairs
      return previous !== undefined && nowMs < previous.endsMs ? [current, previous] : [current]
    },
    async rotateOnionKey(nowMs, { now = false } = {}) {
      const { current, previous } = onion
      // A clock that was set back must not freeze the key: a key from the future counts as old, too.
      const ageMs = nowMs - current.createdMs
      const isDue = now || ageMs < -ONION_GRACE_MS || ageMs >= ONION_PERIOD_MS
      const isForgotten = !isDue && previous !== null && nowMs >= (pairs[1]?.endsMs ?? 0)
      if (!isDue && !isForgotten) return false
      const next = isDue ? { current: newOnionKey(nowMs), previous: current } : { current, previous: null }
      await saveOnion(next)
      // What is no longer answered must not lie about: it would open what was recorded.
      pairs[1]?.privateKey.wipe()
      pairs = isDue ? [toPair(next.current), { ...pairs[0], endsMs: nowMs + ONION_GRACE_MS }] : [pairs[0]]
      onion = next
      return isDue
    },
  }
}

function toPairs({ current, previous }: StoredOnion): [OnionKeyPair, OnionKeyPair?] {
  const pair = toPair(current)
  if (previous === null) return [pair]
  return [pair, { ...toPair(previous), endsMs: current.createdMs + ONION_GRACE_MS }]
}

function toPair(key: StoredOnionKey): OnionKeyPair {
  const privateKey = createSecret(fromHex(key.private))
  const endsMs = key.createdMs + ONION_PERIOD_MS + ONION_GRACE_MS
  return { publicKey: x25519.getPublicKey(privateKey.reveal()), privateKey, endsMs }
}

function newOnionKey(nowMs: number): StoredOnionKey {
  const { privateKey } = generateKeyPairSync('x25519')
  const bytes = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32)
  return { private: bytes.toString('hex'), createdMs: nowMs }
}

function peerIdOf(transportKey: Secret, path: string): string {
  try {
    const key = privateKeyFromProtobuf(transportKey.reveal())
    if (key.type === 'Ed25519') return peerIdFromPrivateKey(key).toString()
  } catch {
    // Falls through to the one message.
  }
  throw unusable(path, 'holds no Ed25519 key')
}
