import type { AskedProfile } from '../coverage/path.ts'
import type { AskPrompt } from './prompt.ts'
import type { SamplingParams } from './sampler.ts'

/** Everything that an answer needs to go on elsewhere, or later: what was asked, and what has been said (engine.md §9). */
export interface Transcript extends TranscriptHead {
  /** Generated so far. */
  readonly ids: readonly number[]
}

export interface TranscriptHead {
  readonly id: string
  /** Unix ms. */
  readonly createdMs: number
  readonly model: string
  /** Hexadecimal. */
  readonly modelId: string
  readonly recipe: string
  /** Of the ring, hexadecimal; null: several, or no ring. */
  readonly numericsClass: string | null
  /** Of this process, which computes the ends. */
  readonly ownClass: string
  readonly maxContext: number
  readonly promptIds: readonly number[]
  readonly request: SavedRequest
}

/** The request with everything in it that was chosen on the way: the seed drawn, the profile in force. */
export interface SavedRequest {
  readonly prompt: AskPrompt
  readonly maxTokens: number
  readonly sampling: SamplingParams
  readonly stop: readonly string[]
  readonly ignoreEnd: boolean
  readonly solo: boolean
  readonly swarm: boolean
  readonly profile: AskedProfile
  readonly exact: boolean
  readonly owner: string | null
}

/** One answer's transcript while it is written. */
export interface TranscriptLog {
  /** Ids that were drawn. Never throws: an answer does not end because a disk is full. */
  add(ids: readonly number[]): void
  /** It is no longer needed. */
  discard(): Promise<void>
  /** Resolves when all of it is out of this process's hands. */
  flush(): Promise<void>
}

/** Keeps transcripts for as long as their answers are not finished. */
export interface TranscriptStore {
  /** Ids that are there already stay when `head.id` is known. */
  begin(head: TranscriptHead): TranscriptLog
}
