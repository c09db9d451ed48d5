import { z } from 'zod'
import { coverageModel, generationBody, peerBody, sessionsBody } from './bodies.ts'

/** The events of /api/events, each with the whole of what changed. */
export const nodeEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('peer'), data: peerBody }).meta({ description: 'A peer is new or has changed.' }),
  z.object({ type: z.literal('peer-left'), data: z.object({ address: z.string() }) }),
  z.object({ type: z.literal('coverage'), data: coverageModel }).meta({ description: "A model's coverage changed." }),
  z.object({ type: z.literal('sessions'), data: sessionsBody }).meta({ description: 'Sessions held for others.' }),
  z.object({ type: z.literal('generation'), data: generationBody }),
])

export type NodeEvent = z.output<typeof nodeEvent>

/** The first event of every stream. `resumed`: what was missed follows; otherwise load everything anew. */
export const helloEvent = z.object({ resumed: z.boolean(), lastId: z.int() })
