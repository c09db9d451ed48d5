/** The shapes of the HTTP API, from the schemas that check it. */
import type { z } from 'zod'
import type * as bodies from '../../src/api/bodies.ts'
import type { DemoBody as DemoState } from '../../src/api/demo-schema.ts'
import type { nodeEvent } from '../../src/api/event-schema.ts'
import type * as home from '../../src/api/home-bodies.ts'
import type { ChatChunk as Chunk } from '../../src/api/openai/chat-schema.ts'
import type { ModelObject as Model } from '../../src/api/openai/model-schema.ts'
import type { SetupBody as Setup } from '../../src/api/setup-schema.ts'

export type StatusBody = z.output<typeof bodies.statusBody>
export type PeerBody = z.output<typeof bodies.peerBody>
export type CoverageModel = z.output<typeof bodies.coverageModel>
export type SessionBody = z.output<typeof bodies.sessionBody>
export type GenerationBody = z.output<typeof bodies.generationBody>
export type HopBody = GenerationBody['hops'][number]
export type UsageBody = z.output<typeof bodies.usageBody>
export type PingBody = z.output<typeof bodies.pingBody>
export type Span = HopBody['span']
export type NodeEvent = z.output<typeof nodeEvent>
export type ModelsBody = home.ModelsBody
export type DoctorBody = home.DoctorBody
export type ConfigBody = home.ConfigBody
export type ContactsBody = home.ContactsBody
export type ContactAddedBody = home.ContactAddedBody
export type InviteBody = home.InviteBody
export type PlanBody = home.PlanBody
export type CostBody = home.CostBody
export type DemoBody = DemoState
export type SetupBody = Setup
export type ChatChunk = Chunk
export type ModelObject = Model
