import type { ChatMessage } from '../model/chat-template.ts'
import { commonLength } from './session.ts'
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

/** So many of a chat's ids are those of everything up to its first user turn. */
export function firstTurnLength(
  text: TextModel,
  prompt: Extract<AskPrompt, { messages: unknown }>,
  promptIds: readonly number[],
): number {
  const first = prompt.messages.findIndex(({ role }) => role === 'user')
  if (first < 0) return promptIds.length
  // What follows that turn in this shorter chat need not follow it in the whole one.
  const ids = text.encodeChat(prompt.messages.slice(0, first + 1), prompt.templateKwargs)
  return commonLength(ids, promptIds)
}

/** Some templates open the think block themselves: only the prompt's last tokens tell. */
export function thinkingOf({ tokenizer }: TextModel, promptIds: readonly number[]): Thinking {
  if (tokenizer.idOf(THINK) === undefined) return 'none'
  const tail = tokenizer.decode(promptIds.slice(-4), { skipSpecialTokens: false })
  return tail.trimEnd().endsWith(THINK) ? 'open' : 'possible'
}
