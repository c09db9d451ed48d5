import { LlmNodeError } from '../base/errors.ts'

/** tokenizer.json with what the encoder needs, checked. Field names are the file's. */
export interface TokenizerJson {
  readonly added_tokens: readonly AddedToken[]
  readonly normalizer: Part | null
  readonly pre_tokenizer: Part | null
  readonly post_processor: Part | null
  readonly decoder: Part | null
  readonly model: Part & { readonly vocab: Readonly<Record<string, number>> }
}

interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
}

type Part = Readonly<Record<string, unknown>>

/**
 * Refuses what the encoder (@huggingface/tokenizers 0.2.0) leaves out or does in another way than the Rust library, so
 * that a tokenizer either gives the same ids or is named as unsupported. The supported files are those of the families
 * in src/model/families. One difference is left: next to an added token with lstrip or rstrip, the library takes
 * U+FEFF for white space and U+0085 not, the Rust one the other way round. Throws MODEL_UNSUPPORTED.
 */
export function checkTokenizerJson(value: unknown): TokenizerJson {
  const file = partOf(value, 'the file')
  const model = partOf(file.model, 'model')
  checkModel(model)
  const vocab = partOf(model.vocab, 'model.vocab') as Record<string, number>
  const normalizer = optionalPart(file.normalizer, 'normalizer')
  const preTokenizer = optionalPart(file.pre_tokenizer, 'pre_tokenizer')
  const postProcessor = optionalPart(file.post_processor, 'post_processor')
  for (const part of flatten(normalizer, 'normalizers')) checkNormalizer(part)
  for (const part of flatten(preTokenizer, 'pretokenizers')) checkPreTokenizer(part)
  for (const part of flatten(postProcessor, 'processors')) checkPostProcessor(part)
  return {
    added_tokens: addedTokens(file.added_tokens),
    normalizer,
    pre_tokenizer: preTokenizer,
    post_processor: postProcessor,
    decoder: optionalPart(file.decoder, 'decoder'),
    model: { ...model, vocab },
  }
}

function checkModel(model: Part): void {
  if (model.type !== 'BPE') throw refuse(`model.type ${model.type}`)
  if (!Array.isArray(model.merges)) throw refuse('model.merges')
  // With dropout the Rust library itself draws lots.
  if (model.dropout) throw refuse('model.dropout')
  if (model.continuing_subword_prefix) throw refuse('model.continuing_subword_prefix')
  if (model.end_of_word_suffix) throw refuse('model.end_of_word_suffix')
}

const normalizers = new Set(['NFC', 'NFD', 'NFKC', 'NFKD', 'Replace', 'Prepend'])

function checkNormalizer({ type }: Part): void {
  if (!normalizers.has(String(type))) throw refuse(`normalizer ${type}`)
}

function checkPreTokenizer(part: Part): void {
  switch (part.type) {
    case 'ByteLevel':
      // The library looks for a space, the Rust one for any white space.
      if (part.add_prefix_space) throw refuse('pre_tokenizer ByteLevel with add_prefix_space')
      return
    case 'Digits':
      return
    case 'Split': {
      // The library knows these two; the others it takes for "Isolated".
      const behaviour = `${part.behavior}, invert ${part.invert ?? false}`
      if (!['Isolated, invert false', 'Removed, invert true'].includes(behaviour)) {
        throw refuse(`pre_tokenizer Split (${behaviour})`)
      }
      return
    }
    case 'Metaspace':
      // The library never splits at the marks.
      if (part.split !== false) throw refuse('pre_tokenizer Metaspace with split')
      if (part.prepend_scheme === undefined) throw refuse('pre_tokenizer Metaspace without prepend_scheme')
      return
    default:
      throw refuse(`pre_tokenizer ${part.type}`)
  }
}

function checkPostProcessor({ type }: Part): void {
  if (type !== 'TemplateProcessing' && type !== 'ByteLevel') throw refuse(`post_processor ${type}`)
}

function addedTokens(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw refuse('added_tokens')
  return value.map((entry, i) => {
    const token = partOf(entry, `added_tokens[${i}]`)
    const { id, content, special, single_word: singleWord } = token
    if (typeof id !== 'number' || typeof content !== 'string' || content === '') throw refuse(`added_tokens[${i}]`)
    if (singleWord) throw refuse(`single_word of the added token ${content}`)
    return { ...token, id, content, special: special === true }
  })
}

/** The parts of a (nested) Sequence, or the part itself. */
function flatten(part: Part | null, listField: string): Part[] {
  if (part === null) return []
  if (part.type !== 'Sequence') return [part]
  const list = part[listField]
  if (!Array.isArray(list)) throw refuse(listField)
  return list.flatMap((each, i) => flatten(partOf(each, `${listField}[${i}]`), listField))
}

function partOf(value: unknown, name: string): Part {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(name)
  return value as Part
}

function optionalPart(value: unknown, name: string): Part | null {
  return value === undefined || value === null ? null : partOf(value, name)
}

function refuse(what: string): LlmNodeError {
  return new LlmNodeError('MODEL_UNSUPPORTED', `tokenizer.json: ${what} is missing or not supported.`, {
    hint: 'Supported are the byte-level and SentencePiece-like BPE tokenizers of Qwen, Llama, Mistral and Phi.',
  })
}
