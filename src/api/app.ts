import { timingSafeEqual } from 'node:crypto'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { stream } from 'hono/streaming'
import { utf8 } from '../base/bytes.ts'
import { isLlmNodeError, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { apiLimits } from '../base/limits.ts'
import { askSchema, type NodeControl } from './types.ts'

/**
 * The admin API. Every route but /api/health needs the token; the Host must be an address, not a name that a foreign
 * page could have pointed here (DNS rebinding).
 */
export function createApi(options: { token: string }, control: NodeControl): Hono {
  const app = new Hono()
  app.use(async (c, next) => {
    if (!isLocalHost(c.req.header('host'))) return c.json(errorBody('BAD_INPUT', 'This Host is not served here.'), 403)
    if (c.req.header('origin') !== undefined) return c.json(errorBody('BAD_INPUT', 'Pages may not call this.'), 403)
    await next()
    c.header('cache-control', 'no-store')
    c.header('content-security-policy', "default-src 'none'")
    c.header('x-content-type-options', 'nosniff')
  })
  app.get('/api/health', (c) => c.json({ ok: true }))
  app.use('/api/*', async (c, next) => {
    if (c.req.path === '/api/health') return next()
    if (!matches(c.req.header('authorization'), `Bearer ${options.token}`)) {
      return c.json(errorBody('AUTH_FAILED', 'The token is missing or wrong.'), 401)
    }
    return next()
  })
  app.use(bodyLimit({ maxSize: apiLimits.bodyBytes, onError: (c) => c.json(errorBody('LIMIT', 'Too long.'), 413) }))
  app.get('/api/status', (c) => c.json(control.status()))
  app.get('/api/peers', (c) => c.json({ peers: control.peers() }))
  app.get('/api/coverage', (c) => c.json(control.coverage()))
  app.get('/api/sessions', (c) => c.json({ sessions: control.sessions() }))
  app.post('/api/stop', (c) => {
    control.stop()
    return c.json({ stopping: true }, 202)
  })
  app.post('/api/ask', async (c) => {
    const parsed = askSchema.safeParse(await c.req.json().catch(() => undefined))
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      throw new LlmNodeError('BAD_INPUT', `Request, ${issue?.path.join('.') || 'body'}: ${issue?.message}.`)
    }
    c.header('content-type', 'application/x-ndjson')
    return stream(c, async (out) => {
      const gone = new AbortController()
      out.onAbort(() => gone.abort())
      for await (const event of control.ask(parsed.data, gone.signal)) {
        if (out.aborted) return
        await out.write(`${JSON.stringify(event)}\n`)
      }
    })
  })
  app.notFound((c) => c.json(errorBody('BAD_INPUT', `There is nothing at ${c.req.path}.`), 404))
  app.onError((thrown, c) => {
    const error = toLlmNodeError(thrown)
    const status = isLlmNodeError(error, 'BAD_INPUT') ? 400 : isLlmNodeError(error, 'NOT_SET_UP') ? 409 : 500
    return c.json(errorBody(error.code, error.message, error.hint), status)
  })
  return app
}

function errorBody(code: string, message: string, hint?: string) {
  return { error: { code, message, hint: hint ?? null } }
}

function isLocalHost(host: string | undefined): boolean {
  return host !== undefined && /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\])(:\d{1,5})?$/.test(host)
}

function matches(given: string | undefined, wanted: string): boolean {
  const a = utf8(given ?? '')
  const b = utf8(wanted)
  return a.length === b.length && timingSafeEqual(a, b)
}
