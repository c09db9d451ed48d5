import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { z } from 'zod'
import { fromHex, toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { encodeAddress } from './address.ts'

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
  /** Makes a new onion key when the current one is a week old. True when it did: publish a new contact record then. */
  rotateOnionKey(nowMs: number): Promise<boolean>
}

const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const onionKeySchema = z.strictObject({ private: hex32, createdMs: z.number().int().nonnegative() })
type StoredOnionKey = z.infer<typeof onionKeySchema>
const addressSchema = z.strictObject({ version: z.literal(1), seed: hex32 })
const transportSchema = z.strictObject({ version: z.literal(1), private: z.string().regex(/^([0-9a-f]{2}){16,512}$/) })
const onionSchema = z.strictObject({
  version: z.literal(1),
  current: onionKeySchema,
  previous: onionKeySchema.nullable(),
})

/**
 * The keys in `folder`, made on first use: address.json, transport.json, onion.json, mode 0600, written atomically. A key
 * that is there but cannot be read is never replaced: HOME_UNUSABLE, because a new address would lose the old one.
 */
export async function loadOrCreateIdentity(folder: string, options: { nowMs: number }): Promise<Identity> {
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
    { addressSeed: address.seed, transport: transport.private, onion, folder },
    async (keys) => await writeSecret(onionFile, { version: 1, ...keys }),
  )
  await identity.rotateOnionKey(options.nowMs)
  return identity
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
    async rotateOnionKey(nowMs) {
      // A clock that was set back must not freeze the key: a key from the future counts as old, too.
      const ageMs = nowMs - onion.current.createdMs
      if (ageMs >= -ONION_GRACE_MS && ageMs < ONION_PERIOD_MS) return false
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

async function prepareFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw unusable(folder, 'cannot be created', cause)
  }
}

async function loadOrCreate<T>(path: string, schema: z.ZodType<T>, create: () => Promise<T>): Promise<T> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
    if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable(path, 'cannot be read', cause)
    const fresh = await create()
    await writeSecret(path, fresh)
    return fresh
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's message would quote the file, and the file is a secret.
    throw unusable(path, 'is damaged')
  }
  const checked = schema.safeParse(parsed)
  if (!checked.success) throw unusable(path, 'is damaged')
  return checked.data
}

async function writeSecret(path: string, value: unknown): Promise<void> {
  try {
    await writeFileAtomic(path, `${JSON.stringify(value)}\n`, 0o600)
  } catch (cause) {
    throw unusable(path, 'cannot be written', cause)
  }
}

function unusable(path: string, problem: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('HOME_UNUSABLE', `The key file ${path} ${problem}.`, {
    hint: 'Restore it from a backup or give this user access to it; deleting it gives this node a new identity.',
    ...(cause === undefined ? {} : { cause }),
  })
}
