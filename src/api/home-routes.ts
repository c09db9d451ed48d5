import { Hono } from 'hono'
import type { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import type { ApiContext, ApiEnv } from './caller.ts'
import { contactNamed, contactRequest, type HomeControl, planRequest, settingRequest } from './home-bodies.ts'

/** The part of /api that is about the home rather than the running node. */
export function createHomeRoutes(home: HomeControl): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>()
  app.get('/invite', async (c) => c.json(await home.invite()))
  app.get('/contacts', async (c) => c.json(await home.contacts()))
  app.post('/contacts', async (c) => c.json(await home.addContact(await bodyOf(c, contactRequest))))
  app.post('/contacts/remove', async (c) => {
    await home.removeContact((await bodyOf(c, contactNamed)).petname)
    return c.json(await home.contacts())
  })
  app.get('/config', async (c) => c.json(await home.config()))
  app.post('/config', async (c) => {
    await home.setSetting(await bodyOf(c, settingRequest))
    return c.json(await home.config())
  })
  app.get('/doctor', async (c) => c.json(await home.doctor(c.req.raw.signal)))
  app.get('/models', async (c) => c.json(await home.models()))
  app.post('/plan', async (c) => c.json(await home.plan(await bodyOf(c, planRequest), c.req.raw.signal)))
  return app
}

/** The body as the schema has it. Throws BAD_INPUT naming the field. */
export async function bodyOf<T extends z.ZodType>(c: ApiContext, schema: T): Promise<z.output<T>> {
  const parsed = schema.safeParse(await c.req.json().catch(() => undefined))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.') || 'body'
  throw new LlmNodeError('BAD_INPUT', `The request's ${field}: ${issue?.message}.`, { meta: { field } })
}
