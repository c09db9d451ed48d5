import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import { type ChatMessage, chatTemplateOf, renderChat, specialTokensOf } from '../model/chat-template.ts'
import { type GenerationDefaults, parseGenerationConfig } from '../model/generation-config.ts'
import { createTokenizer, type Tokenizer } from '../model/tokenizer.ts'

/** The text side of a model: what turns a chat into token ids and token ids into an answer. */
export interface TextModel {
  readonly tokenizer: Tokenizer
  readonly defaults: GenerationDefaults
  /**
   * A chat → token ids that end with the beginning of the assistant's turn. A model without a chat template takes the
   * last message as it is. Throws BAD_INPUT.
   */
  encodeChat(messages: readonly ChatMessage[], templateKwargs?: Readonly<Record<string, unknown>>): number[]
  /** A text → token ids, with what the tokenizer adds to every text. Throws CONTEXT_TOO_LONG. */
  encodeText(text: string): number[]
}

/** The repository's files, parsed; `jinjaFile` as text. */
export interface TextFiles {
  readonly config: unknown
  readonly tokenizerJson: unknown
  readonly tokenizerConfig?: unknown
  readonly generationConfig?: unknown
  readonly jinjaFile?: string | undefined
}

/** Throws MODEL_UNSUPPORTED. */
export function createTextModel(files: TextFiles): TextModel {
  const tokenizer = createTokenizer({ tokenizerJson: files.tokenizerJson })
  const template = chatTemplateOf(files)
  const tokens = specialTokensOf(files.tokenizerConfig)
  return {
    tokenizer,
    defaults: parseGenerationConfig(files),
    encodeChat(messages, kwargs = {}) {
      checkLength(messages.map(({ content }) => String(content ?? '')))
      if (template === null) {
        return tokenizer.encode(String(messages.at(-1)?.content ?? ''), { addSpecialTokens: true })
      }
      const text = renderChat({ template, messages, addGenerationPrompt: true, tokens, kwargs })
      return tokenizer.encode(text, { addSpecialTokens: false })
    },
    encodeText(text) {
      checkLength([text])
      return tokenizer.encode(text, { addSpecialTokens: true })
    },
  }
}

function checkLength(texts: readonly string[]): void {
  const bytes = texts.reduce((sum, text) => sum + utf8(text).length, 0)
  if (bytes <= pipelineLimits.promptBytes) return
  throw new LlmNodeError('CONTEXT_TOO_LONG', `The prompt has ${bytes} bytes.`, {
    hint: `At most ${pipelineLimits.promptBytes} are taken; shorten it.`,
  })
}
