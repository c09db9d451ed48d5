import { randomBytes } from 'node:crypto'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import type { Clock } from '../base/clock.ts'
import { apiLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { createAccess, type KeyFinder } from './access.ts'
import { createAdminRoutes } from './admin.ts'
import { createAdmission } from './admission.ts'
import type { ApiEnv } from './caller.ts'
import type { DemoControl } from './demo.ts'
import type { EventLog } from './event-log.ts'
import { createEventStreams } from './event-stream.ts'
import { type GuardOptions, safetyHeaders, sameSite } from './guards.ts'
import type { HomeControl } from './home-bodies.ts'
import type { Inference } from './inference.ts'
import { createMetrics } from './metrics.ts'
import { openAiErrorBody, sendOpenAiError } from './openai/errors.ts'
import { createOpenAiRoutes } from './openai/routes.ts'
import { endpoints, openApiDocument } from './openapi.ts'
import { type Pages, servePage } from './pages.ts'
import type { NodeControl } from './types.ts'

export interface ApiOptions extends GuardOptions {
  /** For the admin part. */
  readonly token: string
  /** The OpenAI part and /metrics need a key. */
  readonly requireKey: boolean
  /** Generations and embeddings at once. */
  readonly maxUnderWay?: number
}

export interface ApiDeps {
  readonly control: NodeControl
  readonly inference: Inference
  readonly home: HomeControl
  readonly pages: Pages
  /** Of `demo --web`. */
  readonly demo?: DemoControl | undefined
  readonly keys: KeyFinder
  readonly events: EventLog
  readonly clock: Clock
  readonly logger: Logger
}

/** The whole HTTP side of a node: the OpenAI part (/v1), the admin part (/api), /metrics, and the pages. */
export function createApi(options: ApiOptions, deps: ApiDeps): Hono<ApiEnv> {
  const { control, inference, home, pages, demo, clock, logger } = deps
  const admission = createAdmission(options.maxUnderWay ?? apiLimits.underWay)
  const metrics = createMetrics(control, admission)
  const access = createAccess(options, deps)
  const app = new Hono<ApiEnv>()
  app.use(safetyHeaders())
  app.use(async (c, next) => {
    const startedMs = clock.monotonicMs()
    await next()
    metrics.request(routeOf(c.req.path), c.res.status, (clock.monotonicMs() - startedMs) / 1000)
  })
  app.use(sameSite(options))
  app.use(bodyLimit({ maxSize: apiLimits.bodyBytes, onError: (c) => tooLong(c) }))
  app.use('/v1/*', access)
  app.route(
    '/v1',
    createOpenAiRoutes({
      inference,
      admission,
      logger,
      onUsage: (usage) => metrics.usage(usage),
      nowMs: () => clock.nowMs(),
      newId: () => randomBytes(12).toString('hex'),
    }),
  )
  const events = createEventStreams(deps.events)
  const admin = { control, home, events, openApi: openApiDocument }
  app.route('/api', createAdminRoutes(options.token, demo === undefined ? admin : { ...admin, demo }))
  app.use('/metrics', access)
  app.get('/metrics', async (c) => c.text(await metrics.text(), 200, { 'content-type': metrics.contentType }))
  app.get('*', async (c, next) => (await servePage(c, pages)) ?? next())
  app.notFound((c) => {
    return c.json({ error: { code: 'BAD_INPUT', message: `There is nothing at ${c.req.path}.`, hint: null } }, 404)
  })
  app.onError((thrown, c) => sendOpenAiError(c, thrown))
  return app
}

/** Only paths that exist are counted by themselves: others could be without number. */
function routeOf(path: string): string {
  return routes.has(path) ? path : path.startsWith('/v1/models/') ? '/v1/models/{id}' : 'other'
}

const routes = new Set(endpoints.map(({ path }) => path))

function tooLong(c: { json(body: object, status: 413): Response }): Response {
  const message = `The body has more than ${apiLimits.bodyBytes / 1_048_576} MiB.`
  const llm_node = { code: 'LIMIT', hint: null }
  const type = 'invalid_request_error'
  return c.json(openAiErrorBody({ message, type, param: null, code: 'request_too_large', llm_node }), 413)
}
