import { checkAsk } from '../api/check-ask.ts'
import type { GenerationCall } from '../api/inference.ts'
import type { AskEvent, AskRequest } from '../api/types.ts'
import { LlmNodeError } from '../base/errors.ts'
import { askVia } from './ask-via.ts'
import type { NodeParts } from './parts.ts'

type ViaEvent = Exclude<AskEvent, { type: 'error' }>

/** Sampling fields that the other node takes; OpenAI's names of the ones that it does not. */
const unsupported = {
  logprobs: 'logprobs',
  repetitionPenalty: 'repetition_penalty',
  frequencyPenalty: 'frequency_penalty',
  presencePenalty: 'presence_penalty',
} as const

/** An answer that another node generates. Its hops are its own affair. Throws what `askVia` throws, BAD_INPUT. */
export async function* answerVia(
  parts: NodeParts,
  call: GenerationCall & { readonly via: string },
  signal: AbortSignal,
): AsyncGenerator<ViaEvent> {
  const profile = call.profile ?? parts.config.privacy.profile
  const request = { ...checkAsk({ ...wishesOf(call), via: call.via }), via: call.via }
  let begun = false
  for await (const event of askVia(parts, request, { signal, profile })) {
    if (event.type === 'error') continue
    // Until the end the weaker is said: by then it is known whether relays stood in between.
    if (!begun) yield { type: 'route', hops: [], profile: 'direct', exact: false, promptTokens: 0, thinking: 'none' }
    begun = true
    yield event
  }
}

function wishesOf({ model, prompt, maxTokens, sampling, stop, ignoreEnd }: GenerationCall): AskRequest {
  for (const [field, name] of Object.entries(unsupported)) {
    if (sampling[field as keyof typeof unsupported] !== undefined) throw refused(name)
  }
  if (ignoreEnd === true) throw refused('ignore_eos')
  const { temperature, topK, topP, minP, seed } = sampling
  return {
    ...(model === '' ? {} : { model }),
    ...textOf(prompt),
    ...defined({ maxTokens, temperature, topK, topP, minP, seed }),
    ...(stop.length === 0 ? {} : { stop: [...stop] }),
  }
}

function textOf(prompt: GenerationCall['prompt']): AskRequest {
  if (!('messages' in prompt)) throw refused('prompt')
  if (prompt.templateKwargs !== undefined) throw refused('chat_template_kwargs')
  return {
    messages: prompt.messages.map(({ role, content }) => {
      if (role !== 'system' && role !== 'user' && role !== 'assistant') throw refused('messages')
      if (typeof content !== 'string') throw refused('messages')
      return { role, content }
    }),
  }
}

function defined<T extends Record<string, number | undefined>>(fields: T): Partial<Record<keyof T, number>> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<
    Record<keyof T, number>
  >
}

function refused(param: string): LlmNodeError {
  return new LlmNodeError('BAD_INPUT', `${param} is not supported when another node generates.`, {
    hint: 'Leave the .llm address of the model out, or this field.',
    meta: { param },
  })
}
