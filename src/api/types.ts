/** What the HTTP API answers and accepts; commands and pages read these shapes. Plain data, JSON-safe. */
import { z } from 'zod'
import type { AskAnswer, AskProgress } from '../pipeline/ask.ts'

/** Sampling fields of a request; absent ones come from the model's generation_config.json. */
export const askSchema = z.strictObject({
  model: z.string().max(256).optional(),
  prompt: z.string().min(1).max(1_048_576).optional(),
  messages: z
    .array(z.strictObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string().max(1_048_576) }))
    .min(1)
    .max(4096)
    .optional(),
  maxTokens: z.int().min(1).max(1_048_576).optional(),
  temperature: z.number().min(0).max(100).optional(),
  topK: z.int().min(0).optional(),
  topP: z.number().gt(0).max(1).optional(),
  minP: z.number().min(0).max(1).optional(),
  seed: z.int().min(0).optional(),
  stop: z.array(z.string().min(1).max(1024)).max(16).optional(),
  /** Go on past the model's end tokens, up to maxTokens: for measuring. */
  ignoreEnd: z.boolean().default(false),
  /** Run all layers in this process. */
  solo: z.boolean().default(false),
  /** Add the SHA-256 of every step's logits to the result. */
  logitsDigest: z.boolean().default(false),
  /** Guess tokens ahead where it pays; the answer is the same. */
  speculate: z.boolean().default(true),
})
export type AskRequest = z.input<typeof askSchema>
export type CheckedAskRequest = z.output<typeof askSchema>

export type AskResult = AskAnswer

export type AskEvent =
  | AskProgress
  | {
      readonly type: 'error'
      readonly error: { readonly code: string; readonly message: string; readonly hint: string | null }
    }

export interface ModelStatus {
  readonly name: string
  readonly modelId: string
  readonly recipe: string
  readonly nLayers: number
  readonly layers: { readonly start: number; readonly end: number } | null
  readonly ends: boolean
}

export interface StatusBody {
  readonly address: string
  readonly peerId: string
  readonly network: string
  readonly version: string
  readonly pid: number
  readonly uptimeS: number
  readonly listening: readonly string[]
  readonly models: readonly ModelStatus[]
  readonly peers: number
  readonly sessions: number
  readonly circuits: number
  readonly decode: { readonly steps: number; readonly meanMs: number | null }
  readonly rssBytes: number
  readonly health: readonly { readonly ok: boolean; readonly text: string; readonly next: string | null }[]
}

export interface PeerBody {
  readonly address: string
  readonly peerId: string
  readonly state: string
  readonly connected: boolean
  readonly rttMs: number | null
  readonly version: string
  readonly serving: readonly {
    readonly modelId: string
    readonly recipe: string
    readonly span: { readonly start: number; readonly end: number }
  }[]
}

export interface CoverageBody {
  readonly models: readonly {
    readonly name: string | null
    readonly modelId: string
    readonly recipe: string
    readonly nLayers: number | null
    /** Replicas of each layer. */
    readonly replicas: readonly number[]
    readonly gaps: readonly { readonly start: number; readonly end: number }[]
    readonly complete: boolean
    readonly holders: readonly {
      readonly address: string
      readonly span: { readonly start: number; readonly end: number }
      readonly state: string
      readonly self: boolean
    }[]
  }[]
}

export interface SessionBody {
  readonly modelId: string
  readonly span: { readonly start: number; readonly end: number }
  readonly maxContext: number
  readonly length: number
  readonly steps: number
  readonly decodeMs: number | null
}

/** What the API needs of the node; src/node passes it in. */
export interface NodeControl {
  status(): StatusBody
  peers(): readonly PeerBody[]
  coverage(): CoverageBody
  sessions(): readonly SessionBody[]
  /** Never throws: a failure is the last event. */
  ask(request: CheckedAskRequest, signal: AbortSignal): AsyncIterable<AskEvent>
  /** Begins to stop; resolves at once. */
  stop(): void
}
