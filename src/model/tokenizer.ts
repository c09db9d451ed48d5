import { Tokenizer as Encoder } from '@huggingface/tokenizers'
import { LlmNodeError } from '../base/errors.ts'
import { modelLimits } from '../base/limits.ts'
import { createPieceDecoder } from './detokenizer.ts'
import { checkTokenizerJson, type TokenizerJson } from './tokenizer-json.ts'

/** Text to token ids and back, as the Rust library `tokenizers` does with the same tokenizer.json. */
export interface Tokenizer {
  /** One more than the highest id that has a token. */
  readonly nTokens: number
  /** Ids of special tokens: structure, not text. */
  readonly specialIds: ReadonlySet<number>
  /** `addSpecialTokens`: what the file's post-processor adds (a begin token); chat templates write their own. */
  encode(text: string, options: { addSpecialTokens: boolean }): number[]
  /** Ids without a token are left out. No clean-up of spaces, whatever tokenizer_config.json says. */
  decode(ids: readonly number[], options: DecodeOptions): string
  /** A decoder for ids that come one by one. The deltas and the flush make up `decode` of all ids. */
  createDetokenizer(options: DecodeOptions): Detokenizer
  /** The bytes that a token stands for, alone: possibly a part of a character. Empty for an id without a token. */
  tokenBytes(id: number): Uint8Array
  /** The same as text; U+FFFD where the bytes are no whole character. */
  tokenText(id: number): string
  /** The id of a token by its content as in the file, for example "<|im_end|>". */
  idOf(token: string): number | undefined
}

export interface DecodeOptions {
  readonly skipSpecialTokens: boolean
}

export interface Detokenizer {
  /** The text that this id settles: whole characters only, often ''. */
  push(id: number): string
  /** What was held back: an unfinished character is U+FFFD. Ends the stream. */
  flush(): string
}

/** Throws MODEL_UNSUPPORTED, naming the field, on what would give other ids than the Rust library. */
export function createTokenizer({ tokenizerJson }: { tokenizerJson: unknown }): Tokenizer {
  const checked = checkTokenizerJson(tokenizerJson)
  const tokens = tokensById(checked)
  const specialIds = new Set(checked.added_tokens.filter(({ special }) => special).map(({ id }) => id))
  const encoder = createEncoder(checked)
  const pieces = createPieceDecoder(checked.decoder)
  const lossy = new TextDecoder('utf-8', { ignoreBOM: true })

  const createDetokenizer = ({ skipSpecialTokens }: DecodeOptions): Detokenizer => {
    const stream = pieces.start()
    return {
      push(id) {
        const token = tokens[id]
        return token === undefined || (skipSpecialTokens && specialIds.has(id)) ? '' : stream.push(token)
      },
      flush: () => stream.flush(),
    }
  }
  const tokenBytes = (id: number) => pieces.bytesOf(tokens[id] ?? '')
  return {
    nTokens: tokens.length,
    specialIds,
    encode: (text, { addSpecialTokens }) => encoder.encode(text, { add_special_tokens: addSpecialTokens }).ids,
    decode(ids, options) {
      const detokenizer = createDetokenizer(options)
      const texts = ids.map((id) => detokenizer.push(id))
      return texts.join('') + detokenizer.flush()
    },
    createDetokenizer,
    tokenBytes,
    tokenText: (id) => lossy.decode(tokenBytes(id)),
    idOf: (token) => encoder.token_to_id(token),
  }
}

/** tokenizer_config.json is kept from the library: the Rust one does not know it either. */
function createEncoder(tokenizerJson: TokenizerJson): Encoder {
  try {
    return new Encoder(tokenizerJson, {})
  } catch (error) {
    throw new LlmNodeError('MODEL_UNSUPPORTED', `tokenizer.json: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
}

function tokensById({ model, added_tokens }: TokenizerJson): (string | undefined)[] {
  const tokens: (string | undefined)[] = []
  const entries = [...Object.entries(model.vocab), ...added_tokens.map(({ content, id }) => [content, id] as const)]
  for (const [token, id] of entries) {
    if (!Number.isInteger(id) || id < 0 || id >= modelLimits.vocabSize) {
      throw new LlmNodeError('MODEL_UNSUPPORTED', `tokenizer.json: token id ${id} is not a whole number in range.`)
    }
    tokens[id] = token
  }
  return tokens
}
