import { z } from 'zod'
import { linkQuality, linkTransport, reachabilityBody } from './net-bodies.ts'

/** What the admin API answers. One schema for the routes' types, the OpenAPI document and the docs. */

const spanBody = z
  .object({ start: z.int(), end: z.int() })
  .meta({ description: 'Layers [start, end): the end is not included.' })

export const errorBody = z.object({
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }),
})

const modelStatus = z.object({
  name: z.string(),
  modelId: z.string(),
  recipe: z.string(),
  nLayers: z.int(),
  layers: spanBody.nullable(),
  ends: z.boolean().meta({ description: 'The ends are held: this node can ask.' }),
})

const healthLine = z.object({ ok: z.boolean(), text: z.string(), next: z.string().nullable() })

export const statusBody = z.object({
  address: z.string(),
  peerId: z.string(),
  network: z.string(),
  version: z.string(),
  pid: z.int(),
  uptimeS: z.number(),
  listening: z.array(z.string()).readonly(),
  reachability: reachabilityBody,
  models: z.array(modelStatus).readonly(),
  peers: z.int().meta({ description: 'Connected ones.' }),
  paused: z.string().nullable().meta({ description: 'Why this node serves nobody now; null: it serves.' }),
  moving: z
    .object({ model: z.string(), span: spanBody, reason: z.enum(['gap', 'fragmented', 'weakest']) })
    .nullable()
    .meta({ description: 'Other layers that it is about to hold instead.' }),
  sessions: z.int().meta({ description: 'Held here for others.' }),
  circuits: z.int(),
  kvBytes: z.int().meta({ description: 'Memory that keys and values take now, also those of answers asked here.' }),
  relay: z
    .object({ on: z.boolean(), circuits: z.int(), most: z.int() })
    .meta({ description: 'Circuits of others that this node forwards now, and how many it would.' }),
  decode: z.object({ steps: z.int(), meanMs: z.number().nullable() }),
  rssBytes: z.int(),
  health: z.array(healthLine).readonly(),
})

const servingBody = z.object({
  modelId: z.string(),
  recipe: z.string(),
  span: spanBody,
  state: z.string(),
  numericsClass: z.string().meta({ description: 'Answers of one class are identical to the last bit.' }),
  decodeMs: z.number().meta({ description: 'Of one token, per layer.' }),
  freeKvTokens: z.int(),
})

export const usageBody = z.object({
  models: z
    .array(
      z.object({
        name: z.string(),
        peers: z
          .array(z.object({ address: z.string(), used: z.boolean(), reason: z.string() }))
          .readonly()
          .meta({ description: 'Whether the best route of each peer leads through this node, and why not.' }),
      }),
    )
    .readonly(),
})

export const pausedBody = z.object({ paused: z.string().nullable() })

export const peerBody = z.object({
  address: z.string(),
  peerId: z.string(),
  state: z.string(),
  connected: z.boolean(),
  rttMs: z.number().nullable(),
  version: z.string(),
  relayed: z.boolean().meta({ description: 'Reached through a relay.' }),
  transport: linkTransport.nullable().meta({ description: 'null: not connected.' }),
  quality: linkQuality.nullable().meta({ description: 'Of the link, by its way and round trip; null: not measured.' }),
  score: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .meta({ description: 'What this node has seen of it, fading within hours: 1 all worked; null: nothing lately.' }),
  twoTruths: z.boolean().meta({ description: 'It has signed two contact records with one number.' }),
  reachability: z.string().meta({ description: 'How it says that others reach it.' }),
  serving: z.array(servingBody).readonly(),
})

export const pingBody = z.object({
  address: z.string(),
  peerId: z.string(),
  foundBy: z.enum(['known', 'hint']).meta({ description: 'known: an advert or a peer had its contact record.' }),
  path: z.enum(['direct', 'relay']),
  transport: linkTransport,
  addr: z.string().meta({ description: 'Where the connection goes.' }),
  rttMs: z.array(z.number()).readonly().meta({ description: 'One number a round trip.' }),
  state: z.string().nullable(),
  version: z.string().nullable(),
  reachability: z.string().nullable(),
  serving: z.array(z.object({ modelId: z.string(), recipe: z.string(), span: spanBody })).readonly(),
})

export const peersBody = z.object({ peers: z.array(peerBody).readonly() })

export const coverageModel = z.object({
  name: z.string().nullable(),
  modelId: z.string(),
  recipe: z.string(),
  nLayers: z.int().nullable(),
  replicas: z.array(z.int()).readonly().meta({ description: 'Of each layer.' }),
  gaps: z.array(spanBody).readonly(),
  complete: z.boolean(),
  holders: z.array(z.object({ address: z.string(), span: spanBody, state: z.string(), self: z.boolean() })).readonly(),
})

export const coverageBody = z.object({ models: z.array(coverageModel).readonly() })

export const sessionBody = z.object({
  modelId: z.string(),
  span: spanBody,
  maxContext: z.int(),
  length: z.int(),
  steps: z.int(),
  decodeMs: z.number().nullable(),
  quietMs: z.number().meta({ description: 'Since its last step ended; a chat between two turns keeps its session.' }),
})

export const sessionsBody = z.object({ sessions: z.array(sessionBody).readonly() })

/** Who can see what (protocol.md §4). */
export const profileName = z.enum(['direct', 'guarded', 'trusted', 'local-only'])

const hopBody = z.object({
  span: spanBody,
  address: z.string().nullable().meta({ description: 'null: this node.' }),
  ms: z.number().nullable().meta({ description: 'Of one token.' }),
  linkMs: z.number().nullable().meta({ description: 'Estimate for the way to it; null: none.' }),
  reason: z.string().meta({ description: 'Why it was chosen, in words.' }),
})

export const generationBody = z
  .object({
    id: z.string().meta({ description: 'Of an answer of /v1: its id.' }),
    model: z.string(),
    state: z.enum(['starting', 'running', 'suspended', 'done', 'stopped', 'failed']).meta({
      description: 'suspended: nobody holds some layers; it goes on when somebody does.',
    }),
    waitsFor: z
      .array(z.string())
      .readonly()
      .meta({ description: 'The layers that are missing, "4-7", while suspended.' }),
    startedMs: z.int().meta({ description: 'Unix ms.' }),
    hops: z.array(hopBody).readonly(),
    profile: profileName.nullable(),
    exact: z.boolean().nullable(),
    promptTokens: z.int().nullable(),
    tokens: z.int().meta({ description: 'Pieces of text so far; at the end, tokens.' }),
    tokensPerSecond: z.number().nullable(),
    failovers: z.int(),
    lastFailover: z
      .object({ reason: z.string(), spans: z.array(spanBody).readonly() })
      .nullable()
      .meta({ description: 'What failed, and the layers of the hop that is blamed.' }),
    error: errorBody.shape.error.nullable(),
  })
  .meta({ description: 'An answer for which this node is the entry. Nothing of its text.' })

export const generationsBody = z.object({ generations: z.array(generationBody).readonly() })

export const stoppingBody = z.object({ stopping: z.literal(true) })

export const healthBody = z.object({
  ok: z.literal(true),
  kind: z.enum(['node', 'setup', 'demo']).meta({ description: 'What is served here: a node, set-up, the demo.' }),
})
