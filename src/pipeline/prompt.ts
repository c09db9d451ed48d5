import type { ChatMessage } from '../model/chat-template.ts'
import type { TextModel } from './text-model.ts'

/** What is to be continued: a chat, a text as it is, or token ids. */
export type AskPrompt =
  | {
      readonly messages: readonly ChatMessage[]
      /** More variables for the chat template, for example enable_thinking. */
      readonly templateKwargs?: Readonly<Record<string, unknown>> | undefined
    }
  | { readonly text: string }
  | { readonly ids: readonly number[] }

/** `none`: the model knows no thinking. `open`: the prompt ends within it, so the answer begins with it. */
export type Thinking = 'none' | 'possible' | 'open'

const THINK = '<think>'

/** Token ids of a prompt. Throws BAD_INPUT, CONTEXT_TOO_LONG. */
export function encodePrompt(text: TextModel, prompt: AskPrompt): readonly number[] {
  if ('ids' in prompt) return prompt.ids
  return 'text' in prompt ? text.encodeText(prompt.text) : text.encodeChat(prompt.messages, prompt.templateKwargs)
}

/** Some templates open the think block themselves: only the prompt's last tokens tell. */
export function thinkingOf({ tokenizer }: TextModel, promptIds: readonly number[]): Thinking {
  if (tokenizer.idOf(THINK) === undefined) return 'none'
  const tail = tokenizer.decode(promptIds.slice(-4), { skipSpecialTokens: false })
  return tail.trimEnd().endsWith(THINK) ? 'open' : 'possible'
}
