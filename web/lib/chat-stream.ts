import { ApiError, request } from './api.ts'
import type { ChatChunk } from './bodies.ts'
import { readEvents } from './event-stream.ts'

export interface ChatCall {
  readonly model: string
  readonly messages: readonly { readonly role: 'user' | 'assistant'; readonly content: string }[]
  readonly max_tokens?: number
  readonly ignore_eos?: boolean
  readonly seed?: number
  readonly llm_node?: { readonly profile: string }
}

/** The chunks of a streamed answer. Throws ApiError, also for a failure in mid-answer, and when `signal` fires. */
export async function* streamChat(call: ChatCall, signal: AbortSignal): AsyncGenerator<ChatChunk> {
  const body = JSON.stringify({ ...call, stream: true })
  const response = await request('/v1/chat/completions', { method: 'POST', body, signal })
  if (response.body === null) return
  for await (const { data } of readEvents(response.body)) {
    if (data === '[DONE]') return
    const chunk = JSON.parse(data)
    if (chunk.error !== undefined) throw new ApiError(0, { ...chunk.error, ...chunk.error.llm_node })
    yield chunk
  }
}
