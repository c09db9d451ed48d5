/** What can go wrong, as a code that scripts and remote peers can rely on. One union: a new code is a new line here. */
export type ErrorCode =
  | 'BAD_INPUT'
  | 'BAD_ADDRESS'
  | 'BAD_CONFIG'
  | 'BAD_RECORD'
  | 'BAD_FRAME'
  | 'CONTACT_CHANGED'
  | 'MODEL_NOT_FOUND'
  | 'MODEL_UNSUPPORTED'
  | 'MODEL_CORRUPT'
  | 'MODEL_CHANGED'
  | 'DOWNLOAD_FAILED'
  | 'DISK_FULL'
  | 'HOME_UNUSABLE'
  | 'HOME_IN_USE'
  | 'PORT_IN_USE'
  | 'NOT_SET_UP'
  | 'NOT_RUNNING'
  | 'VERSION_TOO_OLD'
  | 'PAGES_MISSING'
  | 'ENGINE_FAILED'
  | 'ENGINE_UNAVAILABLE'
  | 'OUT_OF_MEMORY'
  | 'KV_FULL'
  | 'CONTEXT_TOO_LONG'
  | 'SPAN'
  | 'COVERAGE_GAP'
  | 'COVERAGE_FRAGMENTED'
  | 'NO_RELAY'
  | 'PEER_UNREACHABLE'
  | 'PEER_REFUSED'
  | 'CIRCUIT_BROKEN'
  | 'HOP_TIMEOUT'
  | 'AUTH_FAILED'
  | 'LIMIT'
  | 'DEADLINE'
  | 'ABORTED'
  | 'INTERNAL'

/** Facts that may be shown and logged: never a key, a prompt, or another user's data. */
export type ErrorMeta = Readonly<Record<string, string | number | boolean | readonly (string | number)[]>>

export interface ErrorDetails {
  /** What the reader can do next, as a sentence. */
  hint?: string
  meta?: ErrorMeta
  cause?: unknown
}

/** The one error class. `message` says what happened, `hint` what to do next; remote peers only ever see `code`. */
export class LlmNodeError extends Error {
  override readonly name = 'LlmNodeError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly meta: ErrorMeta

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.hint = details.hint
    this.meta = details.meta ?? {}
  }
}

export function isLlmNodeError(error: unknown, code?: ErrorCode): error is LlmNodeError {
  return error instanceof LlmNodeError && (code === undefined || error.code === code)
}

/** The error itself when it is ours, otherwise an INTERNAL (or `code`) error that keeps it as cause. */
export function toLlmNodeError(error: unknown, code: ErrorCode = 'INTERNAL'): LlmNodeError {
  if (error instanceof LlmNodeError) return error
  if (error instanceof Error && error.name === 'AbortError') return new LlmNodeError('ABORTED', 'Stopped on request.')
  return new LlmNodeError(code, error instanceof Error ? error.message : String(error), { cause: error })
}

/** Throws BAD_INPUT unless `condition` holds. For borders, where a library user may be wrong. */
export function assertInput(condition: unknown, message: string, meta: ErrorMeta = {}): asserts condition {
  if (!condition) throw new LlmNodeError('BAD_INPUT', message, { meta })
}
