import { utf8 } from '../base/bytes.ts'
import { type CryptoBackend, TAG_BYTES } from './crypto.ts'
import { badFrame, encodeControl, writeN } from './frames.ts'
import { OP, type Op, opOf } from './ops.ts'
import type { Opener, Sealer } from './ratchet.ts'

const LABELS = { f: utf8('llm/ctrl/f'), b: utf8('llm/ctrl/b') }
const LAYER_HEADER_BYTES = 3
const MAX_PAD = 15

export interface ControlMessage {
  readonly op: Op
  readonly inner: Uint8Array
}

/**
 * One layer: GCM(op1 | innerLen2 | inner | pad). The random pad hides how many layers are inside; with 13 layers (12 hops
 * and the entry) of at most 34 bytes, the longest body, EXTEND with 455 bytes, still fits into a frame.
 */
export function sealControlLayer(
  sealer: Sealer,
  direction: 'f' | 'b',
  cmd: number,
  message: ControlMessage,
  crypto: CryptoBackend,
): Uint8Array {
  const { op, inner } = message
  const random = crypto.random(1 + MAX_PAD)
  const pad = (random[MAX_PAD] ?? 0) & MAX_PAD
  const plaintext = new Uint8Array(LAYER_HEADER_BYTES + inner.length + pad)
  plaintext[0] = op
  plaintext[1] = inner.length >> 8
  plaintext[2] = inner.length & 0xff
  plaintext.set(inner, LAYER_HEADER_BYTES)
  plaintext.set(random.subarray(0, pad), LAYER_HEADER_BYTES + inner.length)
  const sealed = new Uint8Array(plaintext.length + TAG_BYTES)
  sealer.seal(layerAad(direction, cmd, sealer.n), plaintext, sealed, 0)
  return sealed
}

/** Throws AUTH_FAILED or BAD_FRAME. `inner` is a view of a fresh buffer. */
export function openControlLayer(
  opener: Opener,
  direction: 'f' | 'b',
  cmd: number,
  sealed: Uint8Array,
): ControlMessage {
  const plaintext = opener.open(layerAad(direction, cmd, opener.n), sealed)
  if (plaintext.length < LAYER_HEADER_BYTES) throw badFrame('layer')
  const length = ((plaintext[1] ?? 0) << 8) | (plaintext[2] ?? 0)
  const pad = plaintext.length - LAYER_HEADER_BYTES - length
  if (pad < 0 || pad > MAX_PAD) throw badFrame('innerLen')
  return {
    op: opOf(plaintext[0] ?? 0),
    inner: plaintext.subarray(LAYER_HEADER_BYTES, LAYER_HEADER_BYTES + length),
  }
}

/** The frame for the last of `sealers`: its layer innermost, every hop before it passes on (op FORWARD). */
export function wrapControl(
  sealers: readonly Sealer[],
  cmd: number,
  message: ControlMessage,
  crypto: CryptoBackend,
): Uint8Array {
  let current = message
  for (let i = sealers.length - 1; i >= 0; i--) {
    const sealer = sealers[i]
    if (sealer === undefined) break
    current = { op: OP.forward, inner: sealControlLayer(sealer, 'f', cmd, current, crypto) }
  }
  return encodeControl(cmd, current.inner)
}

/**
 * Takes backward layers off until one is not FORWARD: that is the hop's own message. Throws AUTH_FAILED or BAD_FRAME;
 * `hop` in the error's meta would not help, since any hop before could have broken the frame.
 */
export function unwrapControl(
  openers: readonly Opener[],
  cmd: number,
  body: Uint8Array,
): { hop: number; message: ControlMessage } {
  let sealed = body
  for (const [hop, opener] of openers.entries()) {
    const message = openControlLayer(opener, 'b', cmd, sealed)
    if (message.op !== OP.forward) return { hop, message }
    sealed = message.inner
  }
  throw badFrame('layers')
}

function layerAad(direction: 'f' | 'b', cmd: number, n: number): Uint8Array {
  const label = LABELS[direction]
  const aad = new Uint8Array(label.length + 9)
  aad.set(label)
  aad[label.length] = cmd
  writeN(aad, label.length + 1, n)
  return aad
}
