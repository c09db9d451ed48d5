import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import type { MiddlewareHandler } from 'hono'
import type { ApiEnv } from './caller.ts'

export interface GuardOptions {
  /** Listening on loopback only: then no other address can be meant. */
  readonly loopback: boolean
  /** Further names under which this node is reached. */
  readonly allowedHosts: readonly string[]
}

/** Set on every answer, failures included; a page sets its own policy before. */
export function safetyHeaders(): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const requestId = `req_${randomBytes(12).toString('hex')}`
    c.set('requestId', requestId)
    await next()
    c.header('x-request-id', requestId)
    c.header('x-content-type-options', 'nosniff')
    c.header('referrer-policy', 'no-referrer')
    c.header('cross-origin-resource-policy', 'same-origin')
    if (!c.res.headers.has('cache-control')) c.header('cache-control', 'no-store')
    if (!c.res.headers.has('content-security-policy')) {
      c.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
    }
  }
}

/** Refuses what a foreign page in somebody's browser could send: a Host with a name of its own, or another Origin. */
export function sameSite(options: GuardOptions): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const host = c.req.header('host')
    if (host === undefined || !isOwnHost(host, options)) return c.json(refusal('This Host is not served here.'), 403)
    const origin = c.req.header('origin')
    const site = c.req.header('sec-fetch-site') ?? 'none'
    const foreign = origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`
    // A link to the pages may stand anywhere: they hold no secret and no frame may show them.
    const opened = c.req.method === 'GET' && c.req.path === '/' && c.req.header('sec-fetch-mode') === 'navigate'
    if (foreign || (!opened && (site === 'cross-site' || site === 'same-site'))) {
      return c.json(refusal('Pages of other sites may not call this.'), 403)
    }
    return next()
  }
}

/** The shape fits both parts of the API. */
function refusal(message: string) {
  const code = 'BAD_INPUT'
  return { error: { message, type: 'invalid_request_error', param: null, code, hint: null } }
}

/** A name can be made to point here by anyone, an address cannot (DNS rebinding). */
function isOwnHost(host: string, { loopback, allowedHosts }: GuardOptions): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::\d{1,5})?$/i.exec(host)
  const name = match?.[1]?.toLowerCase()
  if (name === undefined) return false
  if (name === 'localhost' || allowedHosts.includes(name)) return true
  const address = name.replace(/^\[|\]$/g, '')
  if (loopback) return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'))
  return isIP(address) !== 0
}
