import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { type ChatMessage, chatTemplateOf, renderChat, specialTokensOf } from '../model/chat-template.ts'
import { createTokenizer } from '../model/tokenizer.ts'

export interface TokenizedText {
  readonly ids: readonly number[]
  readonly text: string
}

/** The text side of a model folder, for checking it against other engines. */
export interface TokenizeTool {
  /** Ids, and what they decode to. */
  encodeText(text: string, options: { addSpecialTokens: boolean }): TokenizedText
  /** The rendered chat with the beginning of the assistant's turn, and its ids. Throws BAD_INPUT, MODEL_UNSUPPORTED. */
  encodeChat(messages: readonly ChatMessage[]): TokenizedText
}

/** Reads tokenizer.json and its companions from `folder`. Throws MODEL_NOT_FOUND, MODEL_CORRUPT, MODEL_UNSUPPORTED. */
export async function openTokenizeTool(folder: string): Promise<TokenizeTool> {
  const tokenizerText = await readText(join(folder, 'tokenizer.json'))
  if (tokenizerText === undefined) {
    throw new LlmNodeError('MODEL_NOT_FOUND', `There is no tokenizer.json in ${folder}.`, {
      hint: 'Give the folder of a model: llm-node models ls shows those on this machine.',
    })
  }
  const configText = await readText(join(folder, 'tokenizer_config.json'))
  const jinjaFile = await readText(join(folder, 'chat_template.jinja'))
  const tokenizer = createTokenizer({ tokenizerJson: parseJson(tokenizerText, 'tokenizer.json') })
  const tokenizerConfig = configText === undefined ? undefined : parseJson(configText, 'tokenizer_config.json')
  const template = chatTemplateOf({ tokenizerConfig, jinjaFile })
  return {
    encodeText(text, options) {
      const ids = tokenizer.encode(text, options)
      return { ids, text: tokenizer.decode(ids, { skipSpecialTokens: false }) }
    },
    encodeChat(messages) {
      if (template === null) throw new LlmNodeError('MODEL_UNSUPPORTED', 'This model has no chat template.')
      const tokens = specialTokensOf(tokenizerConfig)
      const text = renderChat({ template, messages, addGenerationPrompt: true, tokens })
      return { ids: tokenizer.encode(text, { addSpecialTokens: false }), text }
    },
  }
}

/** Undefined when there is no such file. */
async function readText(path: string): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined)
  if (!found?.isFile()) return undefined
  if (found.size > downloadLimits.tokenizerBytes) throw new LlmNodeError('MODEL_UNSUPPORTED', `${path} is too large.`)
  return readFile(path, 'utf8')
}

function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new LlmNodeError('MODEL_CORRUPT', `${name} is not JSON.`, {
      hint: 'Fetch the model again.',
      cause: error,
    })
  }
}
