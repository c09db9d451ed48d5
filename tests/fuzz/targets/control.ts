import { concatBytes } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { openControlLayer } from '../../../src/onion/control.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import {
  checkPlainBody,
  decodeAnswerSet,
  decodeExtend,
  decodeFail,
  decodeOk,
  decodeOutSet,
  decodePipeSet,
  decodeRelaySet,
  encodeAnswerSet,
  encodeExtend,
  encodeFail,
  encodeOk,
  encodeOutSet,
  encodePipeSet,
  encodeRelaySet,
  newSegment,
  OP,
} from '../../../src/onion/ops.ts'
import { createOpener, createSealer, MATERIAL_BYTES } from '../../../src/onion/ratchet.ts'
import { peerIdFromBytes } from '../../../src/p2p/peer-id-bytes.ts'
import { type FuzzTarget, promise, sameBytes, unlessRefused } from '../target.ts'

const REFUSALS = ['BAD_FRAME', 'BAD_RECORD', 'AUTH_FAILED'] as const
const MATERIAL = new Uint8Array(MATERIAL_BYTES).map((_, i) => i * 7)
const PEER_ID = peerIdFromBytes(Uint8Array.of(0, 0x24, 8, 1, 0x12, 0x20, ...new Uint8Array(32).fill(0x58)))

const material = () => createSecret(Uint8Array.from(MATERIAL))

/** The plaintext of a layer: op1 | innerLen2 | inner | pad. */
function layer(op: number, inner: Uint8Array, pad = 0): Uint8Array {
  return concatBytes(Uint8Array.of(op, inner.length >> 8, inner.length & 255), inner, new Uint8Array(pad))
}

/** What a hop or an entry does with a message. */
function readBody(op: number, inner: Uint8Array): void {
  if (op === OP.extend) {
    const body = decodeExtend(inner)
    promise(sameBytes(encodeExtend(body), inner), 'EXTEND round trip')
    promise(body.target.addrs.length <= 4 && inner.length <= 455, 'EXTEND stays within its bounds')
  } else if (op === OP.pipeSet) promise(sameBytes(encodePipeSet(decodePipeSet(inner)), inner), 'PIPE_SET round trip')
  else if (op === OP.relaySet) promise(sameBytes(encodeRelaySet(decodeRelaySet(inner)), inner), 'RELAY_SET round trip')
  else if (op === OP.answerSet)
    promise(sameBytes(encodeAnswerSet(decodeAnswerSet(inner)), inner), 'ANSWER_SET round trip')
  else if (op === OP.outSet) promise(sameBytes(encodeOutSet(decodeOutSet(inner)), inner), 'OUT_SET round trip')
  else if (op === OP.ok) promise(sameBytes(encodeOk(decodeOk(inner)), inner), 'OK round trip')
  else if (op === OP.fail) {
    const { op: failed, code } = decodeFail(inner)
    promise(sameBytes(encodeFail(failed, code), inner), 'FAIL round trip')
  } else checkPlainBody(op as typeof OP.ping, inner)
}

/** Input: direction and command in one byte, then the plaintext of a layer, sealed as a hop that lies would seal it. */
export const controlTarget: FuzzTarget = {
  name: 'control',
  maxBytes: 1_020,
  seeds: () => {
    const create = new Uint8Array(256).fill(4)
    const random = (length: number) => new Uint8Array(length).fill(6)
    const addrs = ['/ip4/127.0.0.1/tcp/4001', '/ip6/2001:db8::1/udp/4001/quic-v1', '/dns4/a.example/tcp/443']
    const span = { start: 2, end: 4 }
    const pipe = { segIn: newSegment(random), segOut: newSegment(random), hiddenSize: 64, maxRows: 8, span }
    const bodies: [number, Uint8Array][] = [
      [OP.extend, encodeExtend({ target: { peerId: PEER_ID, addrs }, create })],
      [OP.pipeSet, encodePipeSet({ ...pipe, tail: true, longRope: false })],
      [OP.relaySet, encodeRelaySet({ mode: 'peel', material: material() })],
      [OP.outSet, encodeOutSet({ fromStep: 9, segOut: newSegment(random) })],
      [OP.answerSet, encodeAnswerSet({ segIn: newSegment(random), segOut: newSegment(random) })],
      [OP.ok, encodeOk(OP.pipeSet)],
      [OP.fail, encodeFail(OP.forward, 'KV_FULL')],
      [OP.ping, new Uint8Array(8)],
      [OP.extended, new Uint8Array(208)],
      [OP.extendFail, Uint8Array.of(1)],
      [OP.truncated, new Uint8Array(0)],
    ]
    return bodies.map(([op, inner], i) => concatBytes(Uint8Array.of(i), layer(op, inner, i)))
  },
  run(input) {
    const direction = ((input[0] ?? 0) & 1) === 0 ? 'f' : 'b'
    const cmd = 3 + (((input[0] ?? 0) >> 1) & 1)
    const plaintext = input.subarray(1)
    const sealer = createSealer(material(), direction, nodeCrypto)
    const aad = concatBytes(Buffer.from(`llm/ctrl/${direction}`), Uint8Array.of(cmd), new Uint8Array(8))
    const sealed = new Uint8Array(plaintext.length + 16)
    sealer.seal(aad, plaintext, sealed, 0)
    const opener = createOpener(material(), direction, nodeCrypto)
    unlessRefused(REFUSALS, () => {
      const { op, inner } = openControlLayer(opener, direction, cmd, sealed)
      promise(opener.n === 1, 'an authentic layer is counted')
      const pad = plaintext.length - 3 - inner.length
      promise(
        pad >= 0 && pad <= 15 && sameBytes(inner, plaintext.subarray(3, 3 + inner.length)),
        'a layer is read whole',
      )
      readBody(op, inner)
    })
    // The same bytes without a key behind them.
    const stranger = createOpener(material(), direction, nodeCrypto)
    promise(
      unlessRefused(['AUTH_FAILED'], () => openControlLayer(stranger, direction, cmd, plaintext)) === undefined,
      'nothing is read that was not sealed',
    )
    promise(stranger.n === 0, 'what is not authentic is not counted')
  },
}
