import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import type { z } from 'zod'
import { fromHex, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { encodeAddress } from './address.ts'
import {
  addressSchema,
  loadOrCreate,
  onionSchema,
  prepareFolder,
  type StoredOnionKey,
  transportSchema,
  unusable,
  writeSecret,
} from './key-files.ts'
import { openSealed } from './sealed-secret.ts'

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
  /** The current onion key first, then the previous one while it is still answered. */
  onionKeys(nowMs: number): readonly [OnionKeyPair, ...OnionKeyPair[]]
  /** Makes a new onion key when the current one is a week old, or `now`. True when it did: publish a new contact record then. */
  rotateOnionKey(nowMs: number, options?: { now?: boolean }): Promise<boolean>
}

/**
 * The keys in `folder`, made on first use: address.json, transport.json, onion.json, mode 0600, written atomically. A key
 * that is there but cannot be read is never replaced: HOME_UNUSABLE, because a new address would lose the old one.
 */
export async function loadOrCreateIdentity(
  folder: string,
  options: { nowMs: number; password?: string | undefined },
): Promise<Identity> {
  await prepareFolder(folder)
  const address = await loadOrCreate(join(folder, 'address.json'), addressSchema, async () => ({
    version: 1 as const,
    seed: randomBytes(32).toString('hex'),
  }))
  const transport = await loadOrCreate(join(folder, 'transport.json'), transportSchema, async () => ({
    version: 1 as const,
    private: toHex(privateKeyToProtobuf(await generateKeyPair('Ed25519'))),
  }))
  const onionFile = join(folder, 'onion.json')
  const onion = await loadOrCreate(onionFile, onionSchema, async () => ({
    version: 1 as const,
    current: newOnionKey(options.nowMs),
    previous: null,
  }))
  const identity = buildIdentity(
    { addressSeed: await seedOf(address, options.password), transport: transport.private, onion, folder },
    async (keys) => await writeSecret(onionFile, { version: 1, ...keys }),
  )
  await identity.rotateOnionKey(options.nowMs)
  return identity
}

/** Throws AUTH_FAILED without the right password. */
async function seedOf(stored: z.infer<typeof addressSchema>, password: string | undefined): Promise<string> {
  if (stored.version === 1) return stored.seed
  if (password === undefined || password === '') {
    throw new LlmNodeError('AUTH_FAILED', 'The keys of this home are protected with a password.', {
      hint: 'Give it in the environment variable LLM_NODE_KEY_PASSWORD.',
    })
  }
  return toHex(await openSealed(stored.sealed, password))
}

interface StoredKeys {
  readonly addressSeed: string
  readonly transport: string
  readonly onion: { current: StoredOnionKey; previous: StoredOnionKey | null }
  readonly folder: string
}

function buildIdentity(
  stored: StoredKeys,
  saveOnion: (keys: { current: StoredOnionKey; previous: StoredOnionKey | null }) => Promise<void>,
): Identity {
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
    onionKeys(nowMs) {
      const [current, previous] = pairs
      return previous !== undefined && nowMs < previous.endsMs ? [current, previous] : [current]
    },
    async rotateOnionKey(nowMs, { now = false } = {}) {
      // A clock that was set back must not freeze the key: a key from the future counts as old, too.
      const ageMs = nowMs - onion.current.createdMs
      if (!now && ageMs >= -ONION_GRACE_MS && ageMs < ONION_PERIOD_MS) return false
      const next = { current: newOnionKey(nowMs), previous: onion.current }
      await saveOnion(next)
      onion = next
      pairs = toPairs(next)
      return true
    },
  }
}

function toPairs(onion: { current: StoredOnionKey; previous: StoredOnionKey | null }): [OnionKeyPair, OnionKeyPair?] {
  const pair = (key: StoredOnionKey, answeredUntilMs: number): OnionKeyPair => {
    const privateKey = createSecret(fromHex(key.private))
    return { publicKey: x25519.getPublicKey(privateKey.reveal()), privateKey, endsMs: answeredUntilMs }
  }
  const current = pair(onion.current, onion.current.createdMs + ONION_PERIOD_MS + ONION_GRACE_MS)
  return onion.previous === null ? [current] : [current, pair(onion.previous, onion.current.createdMs + ONION_GRACE_MS)]
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
