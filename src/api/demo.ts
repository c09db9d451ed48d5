import { Hono } from 'hono'
import { z } from 'zod'
import type { ApiEnv } from './caller.ts'
import { bodyOf } from './home-routes.ts'

/** What `demo --web` shows beside the pages of its entry node. */
export const demoBody = z.object({
  /** What has been done so far, as sentences. */
  steps: z.array(z.string()).readonly(),
  ready: z.boolean(),
  model: z.string(),
  prompt: z.string(),
  nodes: z
    .array(
      z.object({
        name: z.string(),
        layers: z.string(),
        pid: z.int(),
        address: z.string().nullable(),
        state: z.enum(['fetching', 'starting', 'running', 'killed']),
        bytesDownloaded: z.int(),
      }),
    )
    .readonly(),
})

export type DemoBody = z.output<typeof demoBody>

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
