import { Hono, type MiddlewareHandler } from 'hono'
import { stream } from 'hono/streaming'
import { type ErrorCode, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { isAdmin } from './access.ts'
import type { ApiContext, ApiEnv } from './caller.ts'
import { checkAsk } from './check-ask.ts'
import { createDemoRoutes, type DemoControl } from './demo.ts'
import type { EventStreams } from './event-stream.ts'
import type { HomeControl } from './home-bodies.ts'
import { createHomeRoutes } from './home-routes.ts'
import { type NodeControl, pingSchema } from './types.ts'

export interface AdminParts {
  readonly control: NodeControl
  readonly home: HomeControl
  readonly demo?: DemoControl
  readonly events: EventStreams
  readonly openApi: () => unknown
}

/** Open without the token: they tell nothing about this node. */
const open = new Set(['/api/health', '/api/openapi.json'])

/** The admin part, below /api. Everything else needs the token. */
export function createAdminRoutes(token: string, { control, home, demo, events, openApi }: AdminParts): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>()
  app.use(requireToken(token))
  app.get('/health', (c) => c.json({ ok: true, kind: demo === undefined ? 'node' : 'demo' }))
  app.get('/openapi.json', (c) => c.json(openApi() as object))
  app.get('/status', (c) => c.json(control.status()))
  app.get('/peers', (c) => c.json({ peers: control.peers() }))
  app.get('/netcheck', async (c) => c.json(await control.netcheck(c.req.raw.signal)))
  app.get('/coverage', (c) => c.json(control.coverage()))
  app.get('/usage', (c) => c.json(control.usage()))
  app.get('/sessions', (c) => c.json({ sessions: control.sessions() }))
  app.get('/generations', (c) => c.json({ generations: control.generations() }))
  app.delete('/generations/:id', (c) => {
    if (control.stopGeneration(c.req.param('id'))) return c.json({ stopping: true }, 202)
    return c.json(failure('BAD_INPUT', 'No answer of this name is under way.'), 404)
  })
  app.get('/events', (c) => events.open(c))
  app.post('/pause', async (c) => c.json(await control.pause(true)))
  app.post('/resume', async (c) => c.json(await control.pause(false)))
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
  app.route('/', createHomeRoutes(home))
  if (demo !== undefined) app.route('/demo', createDemoRoutes(demo))
  app.all('*', (c) => c.json(failure('BAD_INPUT', `There is nothing at ${c.req.path}.`), 404))
  app.onError((thrown, c) => sendFailure(c, thrown))
  return app
}

/** Everything below /api but a few open paths needs the token. */
export function requireToken(token: string): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    if (open.has(c.req.path) || isAdmin(c.req.header('authorization'), token)) return next()
    const hint = 'Take it from the address that llm-node prints at start, or use the command line.'
    return c.json(failure('AUTH_FAILED', 'The token is missing or wrong.', hint), 401, { 'www-authenticate': 'Bearer' })
  }
}

const statuses: Partial<Record<ErrorCode, 400 | 404 | 409 | 429 | 502>> = {
  BAD_INPUT: 400,
  BAD_ADDRESS: 400,
  BAD_CONFIG: 400,
  MODEL_NOT_FOUND: 404,
  CONTACT_CHANGED: 409,
  NOT_SET_UP: 409,
  NOT_RUNNING: 409,
  HOME_IN_USE: 409,
  LIMIT: 429,
  PEER_UNREACHABLE: 502,
  DOWNLOAD_FAILED: 502,
}

/** Any failure in the shape of the admin part. */
export function sendFailure(c: ApiContext, thrown: unknown): Response {
  const error = toLlmNodeError(thrown)
  return c.json(failure(error.code, error.message, error.hint), statuses[error.code] ?? 500)
}

function failure(code: string, message: string, hint?: string) {
  return { error: { code, message, hint: hint ?? null } }
}
