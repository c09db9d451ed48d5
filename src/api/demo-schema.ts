import { z } from 'zod'

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
