import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'

/** Turns the pieces of a token sequence into text as they come. The text of all pushes and the flush is the decoding. */
export interface TextStream {
  /** The text that is settled by now and was not given out before: whole characters, often ''. */
  push(piece: string): string
  /** What was held back. Ends the stream. */
  flush(): string
}

/** The decoder of a tokenizer.json: what token pieces stand for. */
export interface PieceDecoder {
  start(): TextStream
  /** The bytes of one piece, whatever surrounds it; several pieces may share a character. */
  bytesOf(piece: string): Uint8Array
}

/** Makes the decoder that tokenizer.json's `decoder` describes, as the Rust library does. Throws MODEL_UNSUPPORTED. */
export function createPieceDecoder(decoder: unknown): PieceDecoder {
  const { type, decoders } = decoderFields(decoder)
  if (type === 'ByteLevel') return byteLevelDecoder
  if (type !== 'Sequence' || !Array.isArray(decoders)) throw unsupported(`decoder.type ${String(type)}`)
  return createSequenceDecoder(decoders.map(decoderFields))
}

type DecoderFields = Readonly<Record<string, unknown>>

function decoderFields(value: unknown): DecoderFields {
  if (typeof value !== 'object' || value === null) throw unsupported('the missing decoder')
  return value as DecoderFields
}

function unsupported(what: string): LlmNodeError {
  return new LlmNodeError('MODEL_UNSUPPORTED', `tokenizer.json: ${what} is not supported.`, {
    hint: 'Supported are the byte-level and SentencePiece-like BPE tokenizers of Qwen, Llama, Mistral and Phi.',
  })
}

/** GPT-2's alphabet: printable bytes stand for themselves, the others for the characters from U+0100 on, in order. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(printable(byte) ? byte : next++), byte)
  return map
})()

/** A piece with a character outside the alphabet (an added token) stands for itself. */
function byteLevelBytes(piece: string): Uint8Array {
  const bytes = new Uint8Array(piece.length)
  for (let i = 0; i < piece.length; i++) {
    const byte = byteOfCharacter.get(piece.charAt(i))
    if (byte === undefined) return utf8(piece)
    bytes[i] = byte
  }
  return bytes
}

const byteLevelDecoder: PieceDecoder = {
  start() {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    return {
      push: (piece) => decoder.decode(byteLevelBytes(piece), { stream: true }),
      flush: () => decoder.decode(),
    }
  },
  bytesOf: byteLevelBytes,
}

/** What the supported sequences consist of: replacements, byte fallback, and a cut at the start of the whole text. */
interface SequenceSteps {
  readonly replacements: readonly { readonly from: string; readonly to: string }[]
  readonly byteFallback: boolean
  readonly cut: { readonly text: string; readonly times: number }
}

/** Llama 2, Mistral and Phi-3: [Replace ▁, ByteFallback, Fuse, Strip one space at the start]. */
function createSequenceDecoder(decoders: readonly DecoderFields[]): PieceDecoder {
  const types = decoders.map(({ type }) => type)
  if (types.length === 1 && types[0] === 'ByteLevel') return byteLevelDecoder
  const order = ['Replace', 'ByteFallback', 'Fuse', 'Strip']
  const places = types.map((type) => order.indexOf(String(type)))
  if (
    places.some((place, i) => place < 0 || place < (places[i - 1] ?? 0)) ||
    (types.includes('Strip') && !types.includes('Fuse'))
  ) {
    throw unsupported(`decoder sequence ${types.join(', ')}`)
  }
  const strips = decoders.filter(({ type }) => type === 'Strip')
  const cut = strips[0] ?? { content: '', start: 0, stop: 0 }
  if (strips.length > 1 || cut.stop !== 0 || typeof cut.content !== 'string' || typeof cut.start !== 'number') {
    throw unsupported('this decoder of type Strip')
  }
  const replacements = decoders.filter(({ type }) => type === 'Replace').map(replacementOf)
  const steps = {
    replacements,
    byteFallback: types.includes('ByteFallback'),
    cut: { text: cut.content, times: cut.start },
  }
  return { start: () => startSequence(steps), bytesOf: (piece) => sequenceBytes(piece, steps) }
}

function replacementOf({ pattern, content }: DecoderFields): { from: string; to: string } {
  const from = typeof pattern === 'object' && pattern !== null && 'String' in pattern ? pattern.String : undefined
  if (typeof from !== 'string' || from === '' || typeof content !== 'string') {
    throw unsupported('this decoder of type Replace')
  }
  return { from, to: content }
}

/** The byte that a fallback token like <0x0A> stands for. */
function fallbackByte(piece: string): number | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)
  return match ? Number.parseInt(match[1] ?? '', 16) : undefined
}

function replaceAll(piece: string, { replacements }: SequenceSteps): string {
  return replacements.reduce((text, { from, to }) => text.split(from).join(to), piece)
}

function sequenceBytes(piece: string, steps: SequenceSteps): Uint8Array {
  const byte = steps.byteFallback ? fallbackByte(piece) : undefined
  return byte === undefined ? utf8(replaceAll(piece, steps)) : Uint8Array.of(byte)
}

function startSequence(steps: SequenceSteps): TextStream {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let run: number[] = []
  let cutsLeft = steps.cut.times
  const cutStart = (text: string) => {
    let rest = text
    while (cutsLeft > 0 && rest !== '') {
      if (rest.startsWith(steps.cut.text)) {
        rest = rest.slice(steps.cut.text.length)
        cutsLeft--
      } else cutsLeft = 0
    }
    return rest
  }
  /** A run of byte tokens is text as a whole or not at all: one U+FFFD per byte then, as in the Rust library. */
  const endRun = () => {
    const bytes = Uint8Array.from(run)
    run = []
    try {
      return strict.decode(bytes)
    } catch {
      return '\ufffd'.repeat(bytes.length)
    }
  }
  return {
    push(piece) {
      const replaced = replaceAll(piece, steps)
      const byte = steps.byteFallback ? fallbackByte(replaced) : undefined
      if (byte === undefined) return cutStart(endRun() + replaced)
      run.push(byte)
      return ''
    },
    flush: () => cutStart(endRun()),
  }
}
