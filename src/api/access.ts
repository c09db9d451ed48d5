import { timingSafeEqual } from 'node:crypto'
import type { MiddlewareHandler } from 'hono'
import { utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { ApiEnv, Caller } from './caller.ts'
import { openAiErrorBody } from './openai/errors.ts'
import { createRateLimiter, type RateLimits } from './rate-limit.ts'

/** A key that people have made with `llm-node keys add`. */
export interface ApiKey extends RateLimits {
  readonly id: string
  readonly name: string
}

/** The keys of this node; src/node passes it in. */
export interface KeyFinder {
  /** The key with this secret, as the file says now. */
  find(secret: string): Promise<ApiKey | undefined>
}

export interface AccessOptions {
  /** The admin token opens everything. */
  readonly token: string
  /** Without a key nothing is answered; otherwise an unknown one counts as none. */
  readonly requireKey: boolean
}

const anonymous: Caller = { name: null, charge: () => {} }

/** Says who calls, for the OpenAI part and /metrics. 401 and 429 have OpenAI's shape. */
export function createAccess(
  { token, requireKey }: AccessOptions,
  { keys, clock }: { keys: KeyFinder; clock: Clock },
): MiddlewareHandler<ApiEnv> {
  const limiter = createRateLimiter(clock)
  return async (c, next) => {
    const secret = bearerOf(c.req.header('authorization'))
    if (secret !== undefined && equalTexts(secret, token)) {
      c.set('caller', { ...anonymous, name: 'admin' })
      return next()
    }
    const key = secret === undefined ? undefined : await keys.find(secret)
    if (key === undefined) {
      if (requireKey) return c.json(noKey(secret !== undefined), 401, { 'www-authenticate': 'Bearer' })
      c.set('caller', anonymous)
      return next()
    }
    const { retryAfterS, headers } = limiter.enter(key.id, key)
    for (const [name, value] of Object.entries(headers)) c.header(name, value)
    if (retryAfterS !== undefined) {
      throw new LlmNodeError('LIMIT', `The key "${key.name}" has used up its share of this minute.`, {
        hint: `Try again in ${Math.ceil(retryAfterS)} s.`,
        meta: { retryAfterS },
      })
    }
    c.set('caller', { name: key.name, charge: (nTokens) => limiter.charge(key.id, key, nTokens) })
    return next()
  }
}

function noKey(given: boolean) {
  const hint = 'Make one on the machine of the node: llm-node keys add NAME'
  const message = given ? 'This API key is not known here.' : 'An API key is needed: authorization: Bearer KEY.'
  return openAiErrorBody({
    message: `${message} ${hint}`,
    type: 'invalid_request_error',
    param: null,
    code: 'invalid_api_key',
    llm_node: { code: 'AUTH_FAILED', hint },
  })
}

function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer\s+(\S{1,512})$/i.exec(header ?? '')?.[1]
}

/** Whether a request carries the admin token. */
export function isAdmin(authorization: string | undefined, token: string): boolean {
  const secret = bearerOf(authorization)
  return secret !== undefined && equalTexts(secret, token)
}

/** In constant time for texts of one length. */
function equalTexts(one: string, other: string): boolean {
  const a = utf8(one)
  const b = utf8(other)
  return a.length === b.length && timingSafeEqual(a, b)
}
