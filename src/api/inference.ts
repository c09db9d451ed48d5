import type { AskedProfile } from '../coverage/path.ts'
import type { Embedding } from '../pipeline/embed.ts'
import type { AskPrompt } from '../pipeline/prompt.ts'
import type { SamplingParams } from '../pipeline/sampler.ts'
import type { Patience } from '../pipeline/session.ts'
import type { AskEvent } from './types.ts'

/** `local`: all layers in this process. `swarm`: all layers elsewhere. `auto`: held layers here, the rest elsewhere. */
export type Where = 'auto' | 'local' | 'swarm'

/** A model that this node can ask. */
export interface ModelCard {
  readonly name: string
  /** Unix seconds. */
  readonly created: number
  /** Hexadecimal. */
  readonly modelId: string
  readonly recipe: string
  readonly nLayers: number
  readonly maxContext: number
  /** Hexadecimal: how this process computes (engine.md). */
  readonly numericsClass: string
  /** All layers are held here. */
  readonly local: boolean
  /** Every layer is held by somebody. */
  readonly complete: boolean
}

/** How an answer is to be looked after on its way (pipeline/ask.ts). */
export interface AnswerRun {
  readonly persist?: boolean | undefined
  readonly exact?: boolean | undefined
  readonly hedge?: boolean | undefined
  readonly patience?: Patience | undefined
  readonly totalMs?: number | undefined
  readonly suspendMs?: number | undefined
}

/** A failure is thrown. */
export type InferenceEvent = Exclude<AskEvent, { type: 'error' }>

export interface GenerationCall {
  /** Name of a card; with `via` what the other node calls it, empty: its own choice. */
  readonly model: string
  readonly where: Where
  /** The `.llm` address of a node that shall generate. */
  readonly via?: string | undefined
  readonly prompt: AskPrompt
  /** Default: the configuration's, or what the model's context leaves. */
  readonly maxTokens: number | undefined
  /** Absent fields come from the model's generation_config.json. */
  readonly sampling: Partial<SamplingParams>
  readonly stop: readonly string[]
  /** Who may see what; absent: the node's own choice. */
  readonly profile?: AskedProfile | undefined
  /** Go on past the model's end tokens. */
  readonly ignoreEnd?: boolean
  /** The caller: what an answer leaves for the next turn of its chat is for nobody else. */
  readonly owner?: string | undefined
  /** Of the answer: the generation is listed under it. */
  readonly id?: string | undefined
  /** Name of an answer that was interrupted: it goes on, whatever else the call says. */
  readonly resume?: string | undefined
  /** As in pipeline/ask.ts. */
  readonly run?: AnswerRun | undefined
}

export interface EmbeddingCall {
  readonly model: string
  readonly where: Where
  readonly profile?: AskedProfile | undefined
  readonly prompt: AskPrompt
}

/** What the OpenAI part of the API needs of the node; src/node passes it in. */
export interface Inference {
  models(): readonly ModelCard[]
  /** The first event is the route; before it, admission and coverage have been checked. Throws what `ask` throws. */
  generate(call: GenerationCall, signal: AbortSignal): AsyncIterable<InferenceEvent>
  embed(call: EmbeddingCall, signal: AbortSignal): Promise<Embedding>
}
