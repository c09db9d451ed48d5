import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { apiLimits } from '../base/limits.ts'
import { requireToken, sendFailure } from './admin.ts'
import type { ApiEnv } from './caller.ts'
import type { EventLog } from './event-log.ts'
import { createEventStreams } from './event-stream.ts'
import { type GuardOptions, safetyHeaders, sameSite } from './guards.ts'
import { planRequest } from './home-bodies.ts'
import { bodyOf } from './home-routes.ts'
import { type Pages, servePage } from './pages.ts'
import { costRequest, fetchRequest, networkRequest, type SetupControl, shareRequest } from './setup-schema.ts'

export interface SetupAppDeps {
  readonly control: SetupControl
  readonly events: EventLog
  readonly pages: Pages
}

/** The HTTP side of `setup --web`: the pages, and what their wizard asks for. */
export function createSetupApp(options: GuardOptions & { readonly token: string }, deps: SetupAppDeps): Hono<ApiEnv> {
  const { control, pages } = deps
  const events = createEventStreams(deps.events)
  const app = new Hono<ApiEnv>()
  app.use(safetyHeaders())
  app.use(sameSite(options))
  app.use(bodyLimit({ maxSize: apiLimits.bodyBytes }))
  app.use('/api/*', requireToken(options.token))
  app.get('/api/health', (c) => c.json({ ok: true, kind: 'setup' }))
  app.get('/api/events', (c) => events.open(c))
  app.get('/api/setup', (c) => c.json(control.state()))
  app.post('/api/setup/network', async (c) => {
    await control.network(await bodyOf(c, networkRequest))
    return c.json(control.state())
  })
  app.post('/api/setup/share', async (c) => {
    control.share(await bodyOf(c, shareRequest))
    return c.json(control.state())
  })
  app.post('/api/setup/plan', async (c) => {
    await control.plan(await bodyOf(c, planRequest))
    return c.json(control.state())
  })
  app.post('/api/setup/cost', async (c) => c.json(control.cost((await bodyOf(c, costRequest)).layers)))
  app.post('/api/setup/fetch', async (c) => {
    control.fetch(await bodyOf(c, fetchRequest))
    return c.json(control.state())
  })
  app.post('/api/setup/pause', (c) => {
    control.pause()
    return c.json(control.state())
  })
  app.get('*', async (c, next) => (await servePage(c, pages)) ?? next())
  app.onError((thrown, c) => sendFailure(c, thrown))
  return app
}
