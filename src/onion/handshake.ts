import { concatBytes, createByteReader, createByteWriter, equalBytes, utf8 } from '../base/bytes.ts'
import { createSecret, type Secret } from '../base/secret.ts'
import { encap } from '../p2p/network.ts'
import {
  authFailed,
  type CryptoBackend,
  equalSecrets,
  IV_BYTES,
  isCanonicalPoint,
  KEY_BYTES,
  TAG_BYTES,
} from './crypto.ts'

/** protocol.md §2: shaped after Tor's ntor-v3 (proposal 332). A change of the usage changes this text. */
const PROTOID = 'llm-ntor-x25519-aes256gcm-sha256-1'
const SALT_PHASE1 = utf8(`${PROTOID}:phase1`)
const SALT_SEED = utf8(`${PROTOID}:key_seed`)
const AUTH_BYTES = 32

/** What both ends hold after a handshake. `forward` and `backward`: K32 | IV12 | CK32 each, as ratchet.ts takes them. */
export interface CircuitKeys {
  readonly forward: Secret
  readonly backward: Secret
  /** 32 bytes that name this circuit to both ends and to nobody else (protocol.md §5, "answer auth"). */
  readonly exporter: Secret
}

/** The identity that a CREATE is addressed to. */
export interface HandshakeTarget {
  /** ID: Ed25519 address key, 32 bytes. */
  readonly addressKey: Uint8Array
  /** B: X25519 onion key, 32 bytes. */
  readonly onionKey: Uint8Array
}

export interface ClientHandshake {
  /** X, 32 bytes. */
  readonly publicKey: Uint8Array
  /** ID | B | X | C1. */
  readonly create: Uint8Array
  /** Takes Y | AUTH | C2. Once. Throws AUTH_FAILED; the handshake is over either way. */
  finish(created: Uint8Array): { serverMessage: Uint8Array; keys: CircuitKeys }
  wipe(): void
}

/**
 * The initiator's side. `clientMessage` goes out as it is (callers pad it); `privateKey` is for vectors, otherwise fresh.
 * Throws AUTH_FAILED when the target's onion key is no honest one.
 */
export function createClientHandshake(
  options: { target: HandshakeTarget; network: string; clientMessage: Uint8Array; privateKey?: Uint8Array },
  crypto: CryptoBackend,
): ClientHandshake {
  const { addressKey: id, onionKey: b } = options.target
  const x = createSecret(options.privateKey ?? crypto.random(KEY_BYTES))
  const publicX = crypto.x25519PublicKey(x.reveal())
  const sharedBx = exchange(crypto, x.reveal(), b)
  const c1 = sealUnder(
    crypto,
    phase1Key(crypto, sharedBx, id, publicX, b, options.network),
    options.clientMessage,
    concatBytes(utf8('llm/create'), id, b, publicX),
  )
  let done = false
  const wipe = () => {
    done = true
    x.wipe()
    sharedBx.wipe()
  }
  return {
    publicKey: publicX,
    create: concatBytes(id, b, publicX, c1),
    wipe,
    finish(created) {
      if (done) throw authFailed()
      try {
        const reader = createByteReader(created, 'CREATED')
        const y = reader.bytes(KEY_BYTES, 'Y')
        const auth = reader.bytes(AUTH_BYTES, 'AUTH')
        const c2 = reader.bytes(reader.remaining, 'C2')
        const sharedXy = exchange(crypto, x.reveal(), y)
        const seed = keySeed(crypto, {
          sharedXy,
          sharedXb: sharedBx,
          id,
          b,
          x: publicX,
          y,
          c1,
          network: options.network,
        })
        try {
          // AUTH before C2, so that nothing is opened that the holder of b has not confirmed.
          if (!equalSecrets(auth, seed.auth(c2))) throw authFailed()
          return { serverMessage: seed.openServerMessage(c2), keys: seed.keys() }
        } finally {
          seed.wipe()
        }
      } finally {
        wipe()
      }
    },
  }
}

export interface OpenedCreate {
  readonly clientMessage: Uint8Array
  /** X, 32 bytes. */
  readonly publicKey: Uint8Array
  /** Y | AUTH | C2 and the keys. Once. `privateKey` is for vectors, otherwise fresh. */
  answer(serverMessage: Uint8Array, privateKey?: Uint8Array): { created: Uint8Array; keys: CircuitKeys }
  wipe(): void
}

/** An onion key as the responder holds it. */
export interface OnionKey {
  readonly publicKey: Uint8Array
  readonly privateKey: Secret
}

/** The three fixed fields of a CREATE, before anything is computed. Throws BAD_RECORD when it is too short. */
export function readCreate(create: Uint8Array): { id: Uint8Array; b: Uint8Array; x: Uint8Array; c1: Uint8Array } {
  const reader = createByteReader(create, 'CREATE')
  return {
    id: reader.bytes(KEY_BYTES, 'ID'),
    b: reader.bytes(KEY_BYTES, 'B'),
    x: reader.bytes(KEY_BYTES, 'X'),
    c1: reader.bytes(reader.remaining, 'C1'),
  }
}

/** The responder's side. Throws AUTH_FAILED unless ID is `addressKey`, B one of `onionKeys`, and C1 is authentic. */
export function openCreate(
  create: Uint8Array,
  own: { addressKey: Uint8Array; onionKeys: readonly OnionKey[]; network: string },
  crypto: CryptoBackend,
): OpenedCreate {
  const { id, b, x, c1 } = readCreate(create)
  const onionKey = own.onionKeys.find((key) => equalBytes(key.publicKey, b))
  if (!equalBytes(id, own.addressKey) || onionKey === undefined) throw authFailed()
  const sharedXb = exchange(crypto, onionKey.privateKey.reveal(), x)
  let clientMessage: Uint8Array
  try {
    const key = phase1Key(crypto, sharedXb, id, x, b, own.network)
    clientMessage = openUnder(crypto, key, c1, concatBytes(utf8('llm/create'), id, b, x))
  } catch (error) {
    sharedXb.wipe()
    throw error
  }
  return {
    clientMessage,
    publicKey: x,
    wipe: () => sharedXb.wipe(),
    answer(serverMessage, privateKey) {
      const secretY = createSecret(privateKey ?? crypto.random(KEY_BYTES))
      const y = crypto.x25519PublicKey(secretY.reveal())
      const sharedXy = exchange(crypto, secretY.reveal(), x)
      secretY.wipe()
      const seed = keySeed(crypto, { sharedXy, sharedXb, id, b, x, y, c1, network: own.network })
      const c2 = seed.sealServerMessage(serverMessage)
      const created = concatBytes(y, seed.auth(c2), c2)
      const keys = seed.keys()
      seed.wipe()
      return { created, keys }
    },
  }
}

/** Non-canonical and low-order points are refused alike: no honest key is one. */
function exchange(crypto: CryptoBackend, privateKey: Uint8Array, publicKey: Uint8Array): Secret {
  if (!isCanonicalPoint(publicKey)) throw authFailed()
  return createSecret(crypto.x25519(privateKey, publicKey))
}

function phase1Key(
  crypto: CryptoBackend,
  sharedBx: Secret,
  id: Uint8Array,
  x: Uint8Array,
  b: Uint8Array,
  network: string,
): Secret {
  const s1 = createSecret(concatBytes(sharedBx.reveal(), id, x, b, encap(network)))
  const key = createSecret(crypto.hkdf(s1.reveal(), SALT_PHASE1, utf8('key'), KEY_BYTES + IV_BYTES))
  s1.wipe()
  return key
}

interface SeedInputs {
  readonly sharedXy: Secret
  readonly sharedXb: Secret
  readonly id: Uint8Array
  readonly b: Uint8Array
  readonly x: Uint8Array
  readonly y: Uint8Array
  readonly c1: Uint8Array
  readonly network: string
}

/** Everything that follows from s2. `wipe` also wipes both shared secrets. */
function keySeed(crypto: CryptoBackend, inputs: SeedInputs) {
  const { sharedXy, sharedXb, id, b, x, y, c1, network } = inputs
  const c1Hash = crypto.sha256(c1)
  const s2 = createSecret(concatBytes(sharedXy.reveal(), sharedXb.reveal(), id, b, x, y, c1Hash, encap(network)))
  const derive = (info: string, length: number) => createSecret(crypto.hkdf(s2.reveal(), SALT_SEED, utf8(info), length))
  const serverAad = concatBytes(utf8('llm/created'), id, b, x, y, c1Hash)
  return {
    sealServerMessage: (message: Uint8Array) => sealUnder(crypto, derive('server_msg', 44), message, serverAad),
    openServerMessage: (c2: Uint8Array) => openUnder(crypto, derive('server_msg', 44), c2, serverAad),
    auth(c2: Uint8Array): Uint8Array {
      const key = derive('verify', 32)
      const c2Encap = createByteWriter().u64(c2.length).bytes(c2).finish()
      const tag = crypto.hmac(key.reveal(), concatBytes(id, b, y, x, c1Hash, c2Encap, utf8(PROTOID), utf8('Server')))
      key.wipe()
      return tag
    },
    keys(): CircuitKeys {
      const circuit = derive('circuit', 120)
      const bytes = circuit.reveal()
      const chain = bytes.subarray(88)
      const keys = {
        forward: createSecret(concatBytes(bytes.subarray(0, 44), chain)),
        backward: createSecret(concatBytes(bytes.subarray(44, 88), chain)),
        exporter: derive('exporter', 32),
      }
      circuit.wipe()
      return keys
    },
    wipe() {
      s2.wipe()
      sharedXy.wipe()
      sharedXb.wipe()
    },
  }
}

/** Uses up and wipes `keyIv` (key32 | iv12): each such key seals one message. */
function sealUnder(crypto: CryptoBackend, keyIv: Secret, plaintext: Uint8Array, aad: Uint8Array): Uint8Array {
  const out = new Uint8Array(plaintext.length + TAG_BYTES)
  const bytes = keyIv.reveal()
  crypto.aead(bytes.subarray(0, KEY_BYTES)).seal(bytes.subarray(KEY_BYTES), aad, plaintext, out, 0)
  keyIv.wipe()
  return out
}

function openUnder(crypto: CryptoBackend, keyIv: Secret, sealed: Uint8Array, aad: Uint8Array): Uint8Array {
  const bytes = keyIv.reveal()
  try {
    return crypto.aead(bytes.subarray(0, KEY_BYTES)).open(bytes.subarray(KEY_BYTES), aad, sealed)
  } finally {
    keyIv.wipe()
  }
}
