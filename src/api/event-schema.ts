import { z } from 'zod'
import { coverageModel, generationBody, peerBody, sessionsBody } from './bodies.ts'
import { demoBody } from './demo-schema.ts'
import { reachabilityBody } from './net-bodies.ts'
import { setupBody } from './setup-schema.ts'

/** The events of /api/events, each with the whole of what changed. */
export const nodeEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('peer'), data: peerBody }).meta({ description: 'A peer is new or has changed.' }),
  z.object({ type: z.literal('peer-left'), data: z.object({ address: z.string() }) }),
  z.object({ type: z.literal('coverage'), data: coverageModel }).meta({ description: "A model's coverage changed." }),
  z
    .object({ type: z.literal('reachability'), data: reachabilityBody })
    .meta({ description: 'How others reach this node changed.' }),
  z.object({ type: z.literal('sessions'), data: sessionsBody }).meta({ description: 'Sessions held for others.' }),
  z.object({ type: z.literal('generation'), data: generationBody }),
  z.object({ type: z.literal('demo'), data: demoBody }).meta({ description: 'Only of demo --web.' }),
  z.object({ type: z.literal('setup'), data: setupBody }).meta({ description: 'Only of setup --web.' }),
])

export type NodeEvent = z.output<typeof nodeEvent>

/** The first event of every stream. `resumed`: what was missed follows; otherwise load everything anew. */
export const helloEvent = z.object({ resumed: z.boolean(), lastId: z.int() })
