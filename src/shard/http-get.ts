import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'

export interface HttpGetOptions {
  /** Sent as a bearer token, to the first origin only. */
  readonly token?: string
  /** Names this client to a server that counts (the demo's); sent only when set. */
  readonly clientName?: string
}

export interface HttpGetDeps {
  /** Waits; rejects when `signal` fires. Passed in so that tests need not wait. */
  wait(ms: number, signal: AbortSignal | undefined): Promise<void>
  nowMs(): number
  readonly stallMs: number
}

/** A final answer (no redirect, no passing failure), and the timer that watches its body. */
export interface HttpAnswer {
  readonly response: Response
  /** The body's bytes. Throws a passing failure when nothing arrives for `stallMs`. */
  body(): AsyncGenerator<Uint8Array>
  /** Gives the connection back without reading the rest. */
  discard(): void
}

export interface HttpGet {
  /**
   * Follows redirects (Range kept, token dropped at another origin) and returns whatever else the server answers.
   * Throws a `passing` failure when the server cannot be reached, is busy (429, 503) or broken (5xx).
   */
  once(url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal | undefined): Promise<HttpAnswer>
  /**
   * Runs `attempt` until it succeeds. After a passing failure it waits as long as the server asked, or longer each
   * time; `downloadLimits.attempts` failures in a row are final: DOWNLOAD_FAILED.
   */
  persist<T>(attempt: () => Promise<T>, signal: AbortSignal | undefined): Promise<T>
}

/** A failure that may go away by itself. `retryAfterMs`: what the server asked for. */
class PassingFailure extends Error {
  readonly retryAfterMs: number | null

  constructor(message: string, retryAfterMs: number | null, cause?: unknown) {
    super(message, { cause })
    this.retryAfterMs = retryAfterMs
  }
}

export function createHttpGet(options: HttpGetOptions, deps: HttpGetDeps): HttpGet {
  const identity: Record<string, string> = { 'user-agent': 'llm-node', 'accept-encoding': 'identity' }
  if (options.clientName !== undefined) identity['x-llm-node-client'] = options.clientName

  return {
    async once(url, headers, signal) {
      const watch = createStallWatch(deps.stallMs, signal)
      try {
        const response = await followRedirects(url, { ...identity, ...headers }, options.token, watch.signal)
        const passing = passingStatus(response, deps.nowMs())
        if (passing) {
          await response.body?.cancel()
          throw passing
        }
        return answerOf(response, watch)
      } catch (error) {
        watch.stop()
        throw classify(error, signal, url)
      }
    },
    async persist(attempt, signal) {
      let failures = 0
      for (;;) {
        try {
          return await attempt()
        } catch (error) {
          if (!(error instanceof PassingFailure)) throw error
          failures++
          const waitMs = error.retryAfterMs ?? downloadLimits.backoffMs * 2 ** (failures - 1)
          if (failures >= downloadLimits.attempts || waitMs > downloadLimits.retryAfterMs) throw finalFailure(error)
          await deps.wait(waitMs, signal)
        }
      }
    },
  }
}

/** Waits on the real clock. Throws ABORTED. */
export function waitMs(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer)
      reject(new LlmNodeError('ABORTED', 'Stopped on request.'))
    }
    if (signal?.aborted) {
      reject(new LlmNodeError('ABORTED', 'Stopped on request.'))
      return
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', aborted)
      resolve()
    }, ms)
    signal?.addEventListener('abort', aborted, { once: true })
  })
}

interface StallWatch {
  readonly signal: AbortSignal
  /** Something arrived. */
  touch(): void
  stop(): void
}

function createStallWatch(stallMs: number, signal: AbortSignal | undefined): StallWatch {
  const stalled = new AbortController()
  const fire = () => stalled.abort(new PassingFailure(`nothing arrived for ${stallMs} ms`, null))
  const timer = setTimeout(fire, stallMs)
  return {
    signal: signal ? AbortSignal.any([signal, stalled.signal]) : stalled.signal,
    touch: () => timer.refresh(),
    stop: () => clearTimeout(timer),
  }
}

function answerOf(response: Response, watch: StallWatch): HttpAnswer {
  return {
    response,
    async *body() {
      if (!response.body) return
      try {
        for await (const chunk of response.body) {
          watch.touch()
          yield chunk
        }
      } catch (error) {
        throw classify(error, watch.signal, new URL(response.url))
      } finally {
        watch.stop()
      }
    },
    discard() {
      watch.stop()
      response.body?.cancel().catch(() => {})
    },
  }
}

async function followRedirects(
  from: URL,
  headers: Readonly<Record<string, string>>,
  token: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  let url = from
  let sendsToken = token !== undefined
  for (let hop = 0; hop <= downloadLimits.redirects; hop++) {
    const authorization: Record<string, string> = sendsToken ? { authorization: `Bearer ${token}` } : {}
    const response = await fetch(url, { headers: { ...headers, ...authorization }, redirect: 'manual', signal })
    const location = response.headers.get('location')
    if (response.status < 300 || response.status >= 400 || location === null) return response
    await response.body?.cancel()
    const next = new URL(location, url)
    if (next.protocol !== 'https:' && next.protocol !== url.protocol) {
      throw new LlmNodeError('DOWNLOAD_FAILED', `${url.origin} redirects to ${next.protocol}, which is not safe.`)
    }
    // A token once dropped stays dropped: a redirect back must not get it from a stranger's say-so.
    sendsToken &&= next.origin === url.origin
    url = next
  }
  throw new LlmNodeError('DOWNLOAD_FAILED', `${from.origin} redirects more than ${downloadLimits.redirects} times.`)
}

function passingStatus(response: Response, nowMs: number): PassingFailure | null {
  const { status } = response
  if (status < 500 && status !== 408 && status !== 425 && status !== 429) return null
  return new PassingFailure(`the server answers ${status}`, retryAfter(response.headers.get('retry-after'), nowMs))
}

/** Seconds or an HTTP date (RFC 9110 §10.2.3) → ms from now; null when absent or unreadable. */
function retryAfter(value: string | null, nowMs: number): number | null {
  if (value === null) return null
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000
  const at = Date.parse(value)
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs)
}

/** What fetch and its body throw, sorted into: stopped by the caller, ours, or a failure that may pass. */
function classify(error: unknown, signal: AbortSignal | undefined, url: URL): unknown {
  if (error instanceof PassingFailure || isLlmNodeError(error)) return error
  if (signal?.aborted) {
    return signal.reason instanceof PassingFailure ? signal.reason : new LlmNodeError('ABORTED', 'Stopped on request.')
  }
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const message = cause instanceof Error ? cause.message : String(cause)
  return new PassingFailure(`${url.host} cannot be reached or broke off: ${message}`, null, error)
}

function finalFailure(error: PassingFailure): LlmNodeError {
  const asked = error.retryAfterMs === null ? '' : ` and asks to wait ${Math.ceil(error.retryAfterMs / 1_000)} s`
  return new LlmNodeError('DOWNLOAD_FAILED', `The download does not get on: ${error.message}${asked}.`, {
    hint: 'Check the connection and the source, then run it again: what has arrived is kept.',
    cause: error,
  })
}

/** Whether another attempt may succeed. */
export function isPassing(error: unknown): boolean {
  return error instanceof PassingFailure
}

/** The body ended before its time: worth another request. */
export function cutShort(host: string): Error {
  return new PassingFailure(`${host} ended its answer early`, null)
}
