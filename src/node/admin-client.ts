import type { AskEvent, AskRequest } from '../api/types.ts'
import { type ErrorCode, LlmNodeError } from '../base/errors.ts'
import type { Home } from './home.ts'
import { type RunState, readRunFile } from './run-file.ts'

/** Speaks to the node that runs on a home. */
export interface AdminClient {
  readonly state: RunState
  get<T>(path: string): Promise<T>
  stop(): Promise<void>
  post<T>(path: string, body: unknown, signal: AbortSignal): Promise<T>
  ask(request: AskRequest, signal: AbortSignal): AsyncIterable<AskEvent>
}

/** Throws NOT_RUNNING when no node runs on this home. */
export async function connectAdmin(home: Home): Promise<AdminClient> {
  const client = await findAdmin(home)
  if (client !== undefined) return client
  throw new LlmNodeError('NOT_RUNNING', `No node runs on this home${home.root === null ? '' : ` (${home.root})`}.`, {
    hint: 'Start one with: llm-node start',
  })
}

export async function findAdmin(home: Home): Promise<AdminClient | undefined> {
  const state = await readRunFile(home)
  return state === undefined ? undefined : createAdminClient(state)
}

function createAdminClient(state: RunState): AdminClient {
  const call = async (path: string, init: RequestInit = {}) => {
    let response: Response
    try {
      response = await fetch(new URL(path, state.apiUrl), {
        ...init,
        headers: { authorization: `Bearer ${state.token}`, 'content-type': 'application/json' },
      })
    } catch (cause) {
      if (init.signal?.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
      throw new LlmNodeError('NOT_RUNNING', `The node at ${state.apiUrl} (process ${state.pid}) does not answer.`, {
        hint: 'See its log, or start it again with: llm-node start',
        cause,
      })
    }
    if (!response.ok) throw errorFromBody(await response.json().catch(() => undefined), response.status)
    return response
  }
  return {
    state,
    get: async <T>(path: string) => (await (await call(path)).json()) as T,
    post: async <T>(path: string, body: unknown, signal: AbortSignal) =>
      (await (await call(path, { method: 'POST', body: JSON.stringify(body), signal })).json()) as T,
    async stop() {
      await call('/api/stop', { method: 'POST', body: '{}' })
    },
    async *ask(request, signal) {
      const response = await call('/api/ask', { method: 'POST', body: JSON.stringify(request), signal })
      if (response.body === null) return
      let rest = ''
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) yield JSON.parse(line) as AskEvent
      }
    },
  }
}

function errorFromBody(body: unknown, status: number): LlmNodeError {
  const error = (body as { error?: { code?: string; message?: string; hint?: string | null } } | undefined)?.error
  if (error?.code === undefined || error.message === undefined) {
    return new LlmNodeError('INTERNAL', `The node answered with status ${status}.`)
  }
  return new LlmNodeError(error.code as ErrorCode, error.message, error.hint ? { hint: error.hint } : {})
}
