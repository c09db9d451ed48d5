/** What the HTTP API answers and accepts; commands and pages read these shapes. Plain data, JSON-safe. */
import { z } from 'zod'
import type { AskAnswer, AskProgress } from '../pipeline/ask.ts'
import type { coverageBody, generationBody, peerBody, pingBody, sessionBody, statusBody, usageBody } from './bodies.ts'
import type { netcheckBody } from './net-bodies.ts'

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
  /** Who may see what; default: the configuration's. Never less than that: an error otherwise. */
  profile: z.enum(['auto', 'direct', 'guarded', 'trusted', 'local-only']).optional(),
  /** Add the SHA-256 of every step's logits to the result. */
  logitsDigest: z.boolean().default(false),
  /** Guess tokens ahead where it pays; the answer is the same. */
  speculate: z.boolean().default(true),
  /** Go on with an interrupted answer: its name, or '' for the latest. Everything else was said then. */
  resume: z.string().max(64).optional(),
  /** Keep what was said so far on this disk, sealed, so that the answer can go on after a restart. */
  persist: z.boolean().optional(),
  /** False: rather go on in another numerics class, marked, than wait for the first one. */
  exact: z.boolean().optional(),
  /** Let a second circuit race the first for the first token, and when a step is slow. */
  hedge: z.boolean().optional(),
  /** Ms for the first token and for every further one before another way is tried; ms for the whole answer. */
  firstTokenMs: z.int().min(1).max(86_400_000).optional(),
  tokenMs: z.int().min(1).max(86_400_000).optional(),
  totalMs: z.int().min(1).max(86_400_000).optional(),
  /** Let another node generate: an `.llm` address or `llm://ADDRESS?a=MULTIADDR`. */
  via: z.string().max(4_096).optional(),
  /** Tell that node this node's address, proven: it may have allowed it. */
  named: z.boolean().default(false),
  /** Ms that the answer may wait for somebody who holds missing layers. */
  waitMs: z.int().min(0).max(86_400_000).optional(),
})
export type AskRequest = z.input<typeof askSchema>
export type CheckedAskRequest = z.output<typeof askSchema>

export type AskResult = AskAnswer & {
  /** The node that generated, when it was another one, and how many tokens. */
  readonly via?: { readonly address: string; readonly tokens: number }
}

export type AskEvent =
  | Exclude<AskProgress, { type: 'done' }>
  | { readonly type: 'done'; readonly result: AskResult }
  | {
      readonly type: 'error'
      readonly error: { readonly code: string; readonly message: string; readonly hint: string | null }
    }

export type StatusBody = z.output<typeof statusBody>
export type PeerBody = z.output<typeof peerBody>
export type UsageBody = z.output<typeof usageBody>
export type PingBody = z.output<typeof pingBody>
export type NetcheckBody = z.output<typeof netcheckBody>
export type CoverageBody = z.output<typeof coverageBody>
export type SessionBody = z.output<typeof sessionBody>
export type GenerationBody = z.output<typeof generationBody>

/** Whom to ping: an `.llm` address or `llm://ADDRESS?a=MULTIADDR`. */
export const pingSchema = z.strictObject({ target: z.string().max(4_096) })

/** What the API needs of the node; src/node passes it in. */
export interface NodeControl {
  status(): StatusBody
  peers(): readonly PeerBody[]
  coverage(): CoverageBody
  /** Why peers use this node's layers, or not. */
  usage(): UsageBody
  netcheck(signal: AbortSignal): Promise<NetcheckBody>
  /** Throws BAD_ADDRESS, PEER_UNREACHABLE, ABORTED. */
  ping(target: string, signal: AbortSignal): Promise<PingBody>
  sessions(): readonly SessionBody[]
  /** Running ones and the last ones that ended, newest first. */
  generations(): readonly GenerationBody[]
  /** Ends a running answer. False when there is none of that name. */
  stopGeneration(id: string): boolean
  /** Never throws: a failure is the last event. */
  ask(request: CheckedAskRequest, signal: AbortSignal): AsyncIterable<AskEvent>
  /** Serves others no longer, or again as far as nothing else stands against it. */
  pause(asked: boolean): Promise<{ readonly paused: string | null }>
  /** Begins to stop; resolves at once. */
  stop(): void
}
