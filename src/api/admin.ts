import { Hono } from 'hono'
import { stream } from 'hono/streaming'
import { isLlmNodeError, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { isAdmin } from './access.ts'
import type { ApiEnv } from './caller.ts'
import { checkAsk } from './check-ask.ts'
import type { EventStreams } from './event-stream.ts'
import { type NodeControl, pingSchema } from './types.ts'

export interface AdminParts {
  readonly control: NodeControl
  readonly events: EventStreams
  readonly openApi: () => unknown
}

/** Open without the token: they tell nothing about this node. */
const open = new Set(['/api/health', '/api/openapi.json'])

/** The admin part, below /api. Everything else needs the token. */
export function createAdminRoutes(token: string, { control, events, openApi }: AdminParts): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>()
  app.use(async (c, next) => {
    if (open.has(c.req.path) || isAdmin(c.req.header('authorization'), token)) return next()
    const hint = 'Take it from the address that llm-node prints at start, or use the command line.'
    return c.json(failure('AUTH_FAILED', 'The token is missing or wrong.', hint), 401, { 'www-authenticate': 'Bearer' })
  })
  app.get('/health', (c) => c.json({ ok: true }))
  app.get('/openapi.json', (c) => c.json(openApi() as object))
  app.get('/status', (c) => c.json(control.status()))
  app.get('/peers', (c) => c.json({ peers: control.peers() }))
  app.get('/coverage', (c) => c.json(control.coverage()))
  app.get('/sessions', (c) => c.json({ sessions: control.sessions() }))
  app.get('/generations', (c) => c.json({ generations: control.generations() }))
  app.get('/events', (c) => events.open(c))
  app.post('/stop', (c) => {
    control.stop()
    return c.json({ stopping: true }, 202)
  })
  app.post('/ping', async (c) => {
    const asked = pingSchema.safeParse(await c.req.json().catch(() => undefined))
    if (!asked.success) throw new LlmNodeError('BAD_INPUT', 'A ping needs {"target": "ADDRESS.llm"}.')
    return c.json(await control.ping(asked.data.target, c.req.raw.signal))
  })
  app.post('/ask', async (c) => {
    const request = checkAsk(await c.req.json().catch(() => undefined))
    c.header('content-type', 'application/x-ndjson')
    return stream(c, async (out) => {
      const gone = new AbortController()
      out.onAbort(() => gone.abort())
      for await (const event of control.ask(request, gone.signal)) {
        if (out.aborted) return
        await out.write(`${JSON.stringify(event)}\n`)
      }
    })
  })
  app.all('*', (c) => c.json(failure('BAD_INPUT', `There is nothing at ${c.req.path}.`), 404))
  app.onError((thrown, c) => {
    const error = toLlmNodeError(thrown)
    const status =
      isLlmNodeError(error, 'BAD_INPUT') || isLlmNodeError(error, 'BAD_ADDRESS')
        ? 400
        : isLlmNodeError(error, 'NOT_SET_UP')
          ? 409
          : isLlmNodeError(error, 'LIMIT')
            ? 429
            : isLlmNodeError(error, 'PEER_UNREACHABLE')
              ? 502
              : 500
    return c.json(failure(error.code, error.message, error.hint), status)
  })
  return app
}

function failure(code: string, message: string, hint?: string) {
  return { error: { code, message, hint: hint ?? null } }
}
