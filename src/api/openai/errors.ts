import type { Context } from 'hono'
import type { z } from 'zod'
import { type ErrorCode, LlmNodeError, toLlmNodeError } from '../../base/errors.ts'
import type { InterruptedFields, OpenAiErrorBody } from './model-schema.ts'

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 408 | 413 | 429 | 499 | 500 | 503 | 504

interface Shape {
  readonly status: ErrorStatus
  readonly type: string
  /** OpenAI's word where it has one; otherwise ours in lower case. */
  readonly code?: string | null
  /** Seconds after which it is worth trying again. */
  readonly retryAfterS?: number
}

const invalid = 'invalid_request_error'

/** What each of our codes is called in OpenAI's world. Codes that are not listed are faults of this node: 500. */
const shapes: Partial<Record<ErrorCode, Shape>> = {
  BAD_INPUT: { status: 400, type: invalid, code: null },
  MODEL_NOT_FOUND: { status: 404, type: invalid, code: 'model_not_found' },
  CONTEXT_TOO_LONG: { status: 413, type: invalid, code: 'context_length_exceeded' },
  LIMIT: { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', retryAfterS: 1 },
  KV_FULL: { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', retryAfterS: 2 },
  OUT_OF_MEMORY: { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', retryAfterS: 5 },
  COVERAGE_GAP: { status: 503, type: 'server_error', retryAfterS: 10 },
  COVERAGE_FRAGMENTED: { status: 503, type: 'server_error', retryAfterS: 10 },
  NO_RELAY: { status: 503, type: 'server_error', retryAfterS: 10 },
  PEER_UNREACHABLE: { status: 503, type: 'server_error', retryAfterS: 2 },
  PEER_REFUSED: { status: 503, type: 'server_error', retryAfterS: 2 },
  CIRCUIT_BROKEN: { status: 503, type: 'server_error', retryAfterS: 1 },
  AUTH_FAILED: { status: 503, type: 'server_error', retryAfterS: 1 },
  BAD_FRAME: { status: 503, type: 'server_error', retryAfterS: 1 },
  NOT_SET_UP: { status: 503, type: 'server_error', retryAfterS: 60 },
  DEADLINE: { status: 504, type: 'server_error' },
  HOP_TIMEOUT: { status: 504, type: 'server_error' },
  ABORTED: { status: 499, type: 'server_error' },
}

export interface OpenAiError {
  readonly status: ErrorStatus
  readonly retryAfterS: number | undefined
  readonly body: OpenAiErrorBody
}

/** Any failure as OpenAI would tell it, with what had come of the answer. What went wrong inside this node is not told. */
export function toOpenAiError(thrown: unknown, interrupted?: InterruptedFields): OpenAiError {
  const error = toLlmNodeError(thrown)
  const { code, hint = null, meta } = error
  const full = code === 'PEER_REFUSED' && meta.status === 'KV_FULL'
  const shape = shapes[full ? 'KV_FULL' : code] ?? { status: 500, type: 'server_error' }
  const message = code === 'INTERNAL' ? 'The node failed; its log says more.' : error.message
  const param = typeof meta.param === 'string' ? meta.param : null
  const retryAfterS = typeof meta.retryAfterS === 'number' ? meta.retryAfterS : shape.retryAfterS
  return {
    status: shape.status,
    retryAfterS,
    body: openAiErrorBody({
      message: hint === null ? message : `${message} ${hint}`,
      type: shape.type,
      param,
      code: shape.code === undefined ? code.toLowerCase() : (stringOf(meta.openAiCode) ?? shape.code),
      llm_node: { code, hint, ...(interrupted === undefined ? {} : { interrupted }) },
    }),
  }
}

/** For the docs: every code that has a meaning of its own, by status. */
export function openAiErrorTable() {
  return Object.entries(shapes)
    .filter(([code]) => code !== 'ABORTED')
    .map(([code, { status, type, code: openAiCode = code.toLowerCase(), retryAfterS }]) => {
      return { code, status, type, openAiCode, retries: retryAfterS !== undefined }
    })
    .sort((a, b) => a.status - b.status)
}

export function openAiErrorBody(error: OpenAiErrorBody['error']): OpenAiErrorBody {
  return { error }
}

export function sendOpenAiError(c: Context, thrown: unknown, interrupted?: InterruptedFields): Response {
  const { status, retryAfterS, body } = toOpenAiError(thrown, interrupted)
  if (retryAfterS !== undefined) c.header('retry-after', String(Math.max(1, Math.ceil(retryAfterS))))
  // 499 is no status that a response may have; nobody is left to read it.
  return c.json(body, status === 499 ? 408 : status)
}

/** The first thing that is wrong with a body, naming the field as OpenAI does: messages[0].content[1].type. */
export function bodyError(error: z.ZodError): LlmNodeError {
  const { path, message, unknownKey } = deepest(error.issues)
  const param = paramOf(unknownKey === undefined ? path : [...path, unknownKey])
  const text = unknownKey === undefined ? message : `Unrecognized request argument supplied: ${param}`
  const openAiCode = /not supported/.test(text) ? 'unsupported_parameter' : unknownKey ? 'unknown_parameter' : null
  const where = param === '' || text.includes(param) ? '' : `${param}: `
  return new LlmNodeError('BAD_INPUT', `${where}${text}`, {
    meta: { ...(param === '' ? {} : { param }), ...(openAiCode === null ? {} : { openAiCode }) },
  })
}

interface Finding {
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly unknownKey?: string
}

/** Of a union's alternatives the one that got furthest is what the client meant. */
function deepest(issues: readonly z.core.$ZodIssue[], base: readonly PropertyKey[] = []): Finding {
  const [issue] = issues
  if (issue === undefined) return { path: base, message: 'The body is not valid.' }
  const path = [...base, ...issue.path]
  if (issue.code === 'unrecognized_keys') return { path, message: issue.message, unknownKey: issue.keys[0] ?? '' }
  if (issue.code !== 'invalid_union') return { path, message: issue.message }
  const findings = issue.errors.map((errors) => deepest(errors, path))
  const best = findings.reduce((a, b) => (b.path.length > a.path.length ? b : a), { path, message: issue.message })
  return best.path.length > path.length ? best : { path, message: findings.map((each) => each.message).join('; ') }
}

function paramOf(path: readonly PropertyKey[]): string {
  return path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('')
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
