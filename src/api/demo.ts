import { Hono } from 'hono'
import { z } from 'zod'
import type { ApiEnv } from './caller.ts'
import type { DemoBody } from './demo-schema.ts'
import { bodyOf } from './home-routes.ts'

const nodeRequest = z.strictObject({ node: z.string().max(64) })

export interface DemoControl {
  state(): DemoBody
  /** SIGKILL. Throws BAD_INPUT when no such node runs. */
  kill(node: string): Promise<void>
  /** Starts a killed one again. Throws BAD_INPUT. */
  revive(node: string): Promise<void>
}

/** Below /api/demo. */
export function createDemoRoutes(demo: DemoControl): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>()
  app.get('/', (c) => c.json(demo.state()))
  app.post('/kill', async (c) => {
    await demo.kill((await bodyOf(c, nodeRequest)).node)
    return c.json(demo.state())
  })
  app.post('/revive', async (c) => {
    await demo.revive((await bodyOf(c, nodeRequest)).node)
    return c.json(demo.state())
  })
  return app
}
