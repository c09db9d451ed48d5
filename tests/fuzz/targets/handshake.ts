import { concatBytes } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { createClientHandshake, openCreate } from '../../../src/onion/handshake.ts'
import {
  CREATE_BYTES,
  CREATED_BYTES,
  decodeClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  encodeServerMessage,
  refusal,
} from '../../../src/onion/handshake-messages.ts'
import { type FuzzTarget, promise, resized, sameBytes, unlessRefused } from '../target.ts'

const REFUSALS = ['BAD_RECORD', 'AUTH_FAILED'] as const
const PRIVATE = new Uint8Array(32).fill(0x42)
const ID = new Uint8Array(32).fill(0x17)
const B = nodeCrypto.x25519PublicKey(PRIVATE)
const own = () => ({
  addressKey: ID,
  onionKeys: [{ publicKey: B, privateKey: createSecret(Uint8Array.from(PRIVATE)) }],
  network: 'fuzz',
})

function readMessages(bytes: Uint8Array): void {
  unlessRefused(REFUSALS, () => {
    const message = decodeClientMessage(bytes)
    promise(sameBytes(encodeClientMessage(message), bytes), 'CM has one encoding')
  })
  unlessRefused(REFUSALS, () => {
    const message = decodeServerMessage(bytes)
    promise(sameBytes(encodeServerMessage(message), bytes), 'SM has one encoding')
  })
}

/** A CREATE around `message`, one byte of it changed unless `xor` is 0. */
function exchange(message: Uint8Array, at: number, xor: number): void {
  const target = { addressKey: ID, onionKey: B }
  const client = createClientHandshake(
    { target, network: 'fuzz', clientMessage: message, privateKey: Uint8Array.from(PRIVATE).fill(9) },
    nodeCrypto,
  )
  const create = Uint8Array.from(client.create)
  create[at % create.length] = (create[at % create.length] ?? 0) ^ xor
  const opened = unlessRefused(REFUSALS, () => openCreate(create, own(), nodeCrypto))
  promise((opened !== undefined) === (xor === 0), 'a CREATE is read exactly when nobody has changed it')
  if (opened === undefined) {
    client.wipe()
    return
  }
  promise(sameBytes(opened.clientMessage, message), 'CM arrives as it was')
  const { created, keys } = opened.answer(message)
  const changed = Uint8Array.from(created)
  changed[at % changed.length] = (changed[at % changed.length] ?? 0) ^ 1
  promise(unlessRefused(REFUSALS, () => client.finish(changed)) === undefined, 'a changed CREATED is refused')
  promise(unlessRefused(REFUSALS, () => client.finish(created)) === undefined, 'a handshake is over after one answer')
  for (const secret of [keys.forward, keys.backward, keys.exporter]) secret.wipe()
}

/** Input: mode 1, position 2, change 1, then bytes that are taken for CM, SM, CREATE and CREATED. */
export const handshakeTarget: FuzzTarget = {
  name: 'handshake',
  maxBytes: 512,
  seeds: () => {
    const none = new Uint8Array(32)
    const relay = {
      role: 'relay' as const,
      modelId: none,
      span: { start: 0, end: 0 },
      maxContext: 0,
      numericsClass: none,
      lifetimeS: 60,
    }
    const compute = {
      ...relay,
      role: 'compute' as const,
      modelId: new Uint8Array(32).fill(1),
      span: { start: 1, end: 3 },
      maxContext: 9,
    }
    const granted = {
      ...refusal('BUSY'),
      status: 'OK' as const,
      maxContext: 7,
      idleS: 600,
      lifeS: 3_600,
      queueBytes: 1 << 22,
    }
    const messages = [encodeClientMessage(relay), encodeClientMessage(compute), encodeServerMessage(granted)]
    return messages.flatMap((message) => [0, 1, 3].map((mode) => concatBytes(Uint8Array.of(mode, 0, 9, mode), message)))
  },
  run(input) {
    const [mode = 0, high = 0, low = 0, xor = 0] = input
    const bytes = input.subarray(4)
    readMessages(bytes)
    readMessages(resized(bytes, 144))
    readMessages(resized(bytes, 128))
    // Curve arithmetic is slow: only one input in four.
    if (mode % 4 === 1) exchange(resized(bytes, 144), high * 256 + low, xor)
    if (mode % 4 !== 3) return
    const create = concatBytes(ID, B, resized(bytes, CREATE_BYTES - 64))
    promise(
      unlessRefused(REFUSALS, () => openCreate(create, own(), nodeCrypto)) === undefined,
      'no CREATE out of nothing',
    )
    promise(
      unlessRefused(REFUSALS, () => openCreate(bytes, own(), nodeCrypto)) === undefined,
      'no CREATE of any length',
    )
    const client = createClientHandshake(
      { target: { addressKey: ID, onionKey: B }, network: 'fuzz', clientMessage: resized(bytes, 144) },
      nodeCrypto,
    )
    promise(
      unlessRefused(REFUSALS, () => client.finish(resized(bytes, high === 0 ? CREATED_BYTES : low))) === undefined,
      'no CREATED out of nothing',
    )
  },
}
