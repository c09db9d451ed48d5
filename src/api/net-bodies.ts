import { z } from 'zod'

/** How a node stands in the network. */

export const reachabilityBody = z
  .object({
    word: z.enum(['unknown', 'unreachable', 'public', 'mapped', 'relayed']).meta({
      description:
        'public: at an address of its own; mapped: the router forwards a port; relayed: through a relay; unreachable: from its own network only.',
    }),
    ok: z.boolean(),
    reason: z.string(),
    next: z.string().nullable(),
  })
  .meta({ description: 'How others reach this node.' })

/** How good a link is to compute over. */
export const linkQuality = z.enum(['good', 'fair', 'poor'])
export const linkTransport = z.enum(['tcp', 'quic', 'relay'])

export const netcheckBody = z.object({
  reachability: reachabilityBody,
  addresses: z.array(z.string()).readonly().meta({ description: 'What this node tells others.' }),
  findings: z
    .array(
      z.object({
        name: z.string(),
        ok: z.boolean().nullable().meta({ description: 'null: not known.' }),
        text: z.string(),
        next: z.string().nullable(),
      }),
    )
    .readonly(),
  servers: z
    .array(
      z.object({
        peerId: z.string(),
        role: z.enum(['bootstrap', 'relay']),
        transport: linkTransport.nullable().meta({ description: 'null: not connected.' }),
        rttMs: z.number().nullable(),
      }),
    )
    .readonly(),
})
