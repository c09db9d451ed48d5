import { concatBytes } from '../../../src/base/bytes.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import {
  createRelayLayer,
  createSegmentOpener,
  createSegmentSealer,
  type DataFrame,
  KIND,
  rowsOf,
} from '../../../src/onion/data.ts'
import { writeDataHeader, writeN, writeU32 } from '../../../src/onion/frames.ts'
import { createSealer, MATERIAL_BYTES } from '../../../src/onion/ratchet.ts'
import { CHUNK_CLASSES, DATA_HEADER_BYTES } from '../../../src/p2p/circuit-frames.ts'
import { type FuzzTarget, promise, resized, sameBytes, unlessRefused } from '../target.ts'

const REFUSALS = ['BAD_FRAME', 'LIMIT', 'AUTH_FAILED'] as const
const ID = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
const HIDDEN = 16
const GRANT = { kinds: new Set(Object.values(KIND)), hiddenSize: HIDDEN, maxRows: 64, maxBytes: 200_000 }
const keys = () => ({ id: ID, material: createSecret(new Uint8Array(MATERIAL_BYTES).fill(3)) })
const layerKey = () => createSecret(new Uint8Array(MATERIAL_BYTES).fill(5))

/** One chunk as its sender may make it: flags, size class and the plaintext's beginning, the rest filled. */
function seal(
  sealer: ReturnType<typeof createSealer>,
  chunk: { flags: number; size: number; fill: number; head: Uint8Array },
): Uint8Array {
  const { flags, size, fill, head } = chunk
  const plaintext = new Uint8Array(size).fill(fill)
  plaintext.set(head.subarray(0, size))
  const aad = new Uint8Array(8 + 8 + 1 + 4 + 8)
  aad.set(Buffer.from('llm/data'))
  aad.set(ID, 8)
  aad[16] = flags
  writeU32(aad, 17, size + 16)
  writeN(aad, 21, sealer.n)
  const frame = new Uint8Array(DATA_HEADER_BYTES + size + 16)
  const { n } = sealer
  sealer.seal(aad, plaintext, frame, DATA_HEADER_BYTES)
  writeDataHeader(frame, flags, n)
  return frame
}

function checkFrame(frame: DataFrame): void {
  const { header, body } = frame
  promise(body.length === header.totalBytes && body.length <= GRANT.maxBytes, 'a body has the length that was checked')
  const hasRows = header.kind === KIND.forward || header.kind === KIND.result
  promise(!hasRows || rowsOf(frame).length === header.nTokens * HIDDEN, 'rows fill their frame')
  // What this end would send for it opens to the same frame again.
  const sealer = createSegmentSealer(keys(), [], nodeCrypto)
  const opener = createSegmentOpener(keys(), [], GRANT, nodeCrypto)
  let again: DataFrame | undefined
  sealer.seal(header, body, (chunk) => {
    again = opener.push(chunk)
  })
  promise(again !== undefined && sameBytes(again.body, body), 'a frame survives sealing and opening')
  promise(JSON.stringify(again.header) === JSON.stringify(header), 'a header survives sealing and opening')
}

/** 22 bytes: kind1 step4 pos4 nTok2 want2 dtype1 hidden4 totalBytes4. */
function header(kind: number, nTok: number, want: number, hidden: number, totalBytes: number): Uint8Array {
  const bytes = new Uint8Array(22)
  bytes[0] = kind
  bytes[10] = nTok
  bytes[12] = want
  bytes[13] = hidden === 0 ? 0 : 1
  writeU32(bytes, 14, hidden)
  writeU32(bytes, 18, totalBytes)
  return bytes
}

/** Input: chunks of (flags 1, class 1, fill 1, length 1, beginning of the plaintext); sealed under the segment's key. */
export const dataTarget: FuzzTarget = {
  name: 'data',
  maxBytes: 512,
  // A chunk is up to 60 KiB, comes with a length byte only, and is copied by sealing and opening.
  maxAllocated: (length) => 1_048_576 + 65_536 * length,
  seeds: () => {
    const chunk = (flags: number, size: number, fill: number, head: Uint8Array) =>
      concatBytes(Uint8Array.of(flags, size, fill, head.length), head)
    const none = new Uint8Array(0)
    return [
      chunk(3, 0, 0, header(1, 1, 1, HIDDEN, 64)),
      chunk(3, 0, 0, header(2, 0, 0, HIDDEN, 0)),
      chunk(3, 1, 0, header(1, 64, 0, HIDDEN, 4_096)),
      concatBytes(chunk(1, 5, 7, header(5, 0, 0, 0, 61_419)), chunk(2, 0, 0, Uint8Array.of(9))),
      concatBytes(chunk(1, 5, 7, header(3, 0, 0, 0, 130_000)), chunk(0, 5, 1, none), chunk(2, 3, 0, none)),
      chunk(3, 0, 0, header(4, 0, 0, 0, 0)),
    ]
  },
  run(input) {
    const sealer = createSealer(keys().material, 'd', nodeCrypto)
    const opener = createSegmentOpener(keys(), [], GRANT, nodeCrypto)
    for (let at = 0, left = 6; at + 4 <= input.length && left > 0; left--) {
      const [flags = 0, size = 0, fill = 0, length = 0] = input.subarray(at, at + 4)
      const head = input.subarray(at + 4, at + 4 + length)
      at += 4 + length
      const frame = seal(sealer, { flags, size: CHUNK_CLASSES[size % CHUNK_CLASSES.length] ?? 0, fill, head })
      let refused = true
      const whole = unlessRefused(REFUSALS, () => {
        const result = opener.push(frame)
        refused = false
        return result
      })
      promise(opener.pendingBytes <= GRANT.maxBytes, 'no more is kept than was granted')
      if (refused) return
      if (whole !== undefined) checkFrame(whole)
    }
  },
}

/** Input: mode 1, n 8, flags 1, length class 1, layers 1, then the beginning of a ciphertext that a relay is to pass on. */
export const relayTarget: FuzzTarget = {
  name: 'relay',
  maxBytes: 128,
  maxAllocated: (length) => 1_048_576 + 64 * length,
  seeds: () => [0, 1, 2, 3].map((mode) => Uint8Array.of(mode, 0, 0, 0, 0, 0, 0, 0, 0, 3, mode, 1, 7, 7)),
  run(input) {
    const [mode = 0] = input
    const [flags = 0, size = 0, tags = 0] = input.subarray(9)
    const length = (CHUNK_CLASSES[size % CHUNK_CLASSES.length] ?? 0) + 16 * (tags % 8)
    const frame = new Uint8Array(DATA_HEADER_BYTES + length)
    writeDataHeader(frame, flags, 0)
    frame.set(resized(input.subarray(1), 8), 6)
    frame.set(input.subarray(12, 12 + length), DATA_HEADER_BYTES)
    const [pass, add, peel] = (['pass', 'add', 'peel'] as const).map((each) =>
      createRelayLayer(each, layerKey(), nodeCrypto),
    )
    if (pass === undefined || add === undefined || peel === undefined) return
    const passed = unlessRefused(REFUSALS, () => pass.pass(frame))
    promise(passed === undefined || sameBytes(passed, frame), 'a relay that passes changes nothing')
    const added = unlessRefused(REFUSALS, () => add.pass(frame))
    promise(added === undefined || passed !== undefined, 'a relay adds to nothing that it would not pass')
    if (added !== undefined) {
      promise(added.length === frame.length + 16, 'a layer adds its tag and nothing else')
      promise(sameBytes(peel.pass(added), frame), 'peeling gives back what was added to')
    }
    const fresh = createRelayLayer('peel', layerKey(), nodeCrypto)
    promise(
      mode % 2 === 0 || unlessRefused(REFUSALS, () => fresh.pass(frame)) === undefined,
      'nothing is peeled that nobody sealed',
    )
  },
}
