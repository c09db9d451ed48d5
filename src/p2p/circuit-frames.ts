import { LlmNodeError } from '../base/errors.ts'

/** Frames of `/llm/circuit/1` as far as a link must know them: how long they are (protocol.md §3). */
export const CIRCUIT_PROTOCOL = '/llm/circuit/1'

/** cmd1 | flags1 | len2 …: enough for the length of both kinds. */
export const CIRCUIT_HEADER_BYTES = 6
/** A control frame, whatever it says; its header is cmd1 | flags1 | len2. */
export const CONTROL_FRAME_BYTES = 1_024
export const CONTROL_HEADER_BYTES = 4
export const CONTROL_BODY_BYTES = CONTROL_FRAME_BYTES - CONTROL_HEADER_BYTES
const LAST_CONTROL_COMMAND = 6
const DATA_COMMAND = 16
/** cmd1 | flags1 | ctLen4 | n8, then the ciphertext. */
export const DATA_HEADER_BYTES = 14
/** Sizes of a chunk's plaintext in bytes (protocol.md §5); each of up to 5 layers adds one tag: hop and ≤4 relays. */
export const CHUNK_CLASSES = [1, 5, 9, 17, 33, 60].map((kib) => kib * 1_024)
const TAG_BYTES = 16
const MAX_LAYERS = 5

/** Throws BAD_FRAME on a command or a length that no circuit uses. */
export function circuitFrameLength(header: Uint8Array): number {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength)
  const command = view.getUint8(0)
  if (command === DATA_COMMAND) {
    const length = view.getUint32(2)
    const known = CHUNK_CLASSES.some((size) => {
      const tags = length - size
      return tags >= TAG_BYTES && tags <= MAX_LAYERS * TAG_BYTES && tags % TAG_BYTES === 0
    })
    if (!known) throw new LlmNodeError('BAD_FRAME', `A data frame cannot carry ${length} bytes.`)
    return DATA_HEADER_BYTES + length
  }
  if (command < 1 || command > LAST_CONTROL_COMMAND) {
    throw new LlmNodeError('BAD_FRAME', `There is no frame command ${command}.`)
  }
  const length = view.getUint16(2)
  if (length > CONTROL_BODY_BYTES) throw new LlmNodeError('BAD_FRAME', `A control frame cannot carry ${length} bytes.`)
  return CONTROL_FRAME_BYTES
}
