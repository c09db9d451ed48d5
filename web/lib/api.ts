import { signal } from '@preact/signals'
import { texts } from '../texts.ts'
import { forgetToken, takeToken } from './token.ts'

/** A failure as the node tells it: what happened, and what to do next. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: string
  readonly hint: string | null
  readonly status: number

  constructor(status: number, error: { code?: string; message?: string; hint?: string | null }) {
    super(error.message ?? texts.errors.unknown)
    this.status = status
    this.code = error.code ?? 'UNKNOWN'
    this.hint = error.hint ?? null
  }
}

export const token = signal<string | null>(takeToken())

/** A request with the token. Throws ApiError; without a valid token the page asks for one. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  if (token.value !== null) headers.set('authorization', `Bearer ${token.value}`)
  if (init.body !== undefined) headers.set('content-type', 'application/json')
  let response: Response
  try {
    response = await fetch(path, { ...init, headers })
  } catch (cause) {
    if (init.signal?.aborted === true) throw cause
    throw new ApiError(0, { code: 'NOT_RUNNING', message: texts.errors.gone, hint: texts.errors.goneHint })
  }
  if (response.ok) return response
  if (response.status === 401) signOut()
  const body = await response.json().catch(() => undefined)
  const error = body?.error ?? {}
  throw new ApiError(response.status, { ...error, ...error.llm_node, message: error.message })
}

export async function getJson<T>(path: string, init: RequestInit = {}): Promise<T> {
  return (await request(path, init)).json() as Promise<T>
}

export async function postJson<T>(path: string, body: unknown, init: RequestInit = {}): Promise<T> {
  return getJson<T>(path, { ...init, method: 'POST', body: JSON.stringify(body) })
}

function signOut(): void {
  forgetToken()
  token.value = null
}
