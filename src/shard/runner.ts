import type { Span } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { RecipeId } from './recipe.ts'

/** One executed run, as reported to observers: which layers, from which position, how many real rows. */
export interface RunRecord {
  readonly span: Span
  readonly pos: number
  readonly rows: number
  readonly threads: number
  readonly ms: number
}

/** The layers `span` of one model in memory, ready to compute; KV sessions are opened on it. */
export interface SpanRunner {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  /** KV positions (tokens) that can still be reserved for a session over the whole span. */
  readonly freeKvTokens: number
  memory(): { readonly weightsBytes: number; readonly kvBytes: number }
  /**
   * Reserves KV for `maxContext` positions of the layers `span` (a sub-span of the runner's).
   * Throws SPAN, CONTEXT_TOO_LONG or KV_FULL. `longRope` picks the long factors of a longrope model.
   */
  openSession(options: { span: Span; maxContext: number; longRope?: boolean }): KvSession
  /** Waits for the run in progress, then frees everything. Idempotent. */
  close(): Promise<void>
}

/** The KV cache of one session on one span: one generation at a time. */
export interface KvSession {
  readonly span: Span
  readonly maxContext: number
  /** Positions that hold keys and values. */
  readonly length: number
  /**
   * Computes rows at positions [pos, pos + nTokens). `hidden`: [nTokens, hiddenSize] f32, row-major; so is the result,
   * a fresh array. `pos` ≤ length: a lower one rolls back. Calls are served in order. The length advances only when
   * the run succeeded. Throws BAD_INPUT (shape, pos, non-finite values), CONTEXT_TOO_LONG, ENGINE_FAILED, ABORTED.
   */
  forward(pos: number, hidden: Float32Array, options?: { signal?: AbortSignal }): Promise<Float32Array>
  /** Frees the KV after the run in progress. Idempotent. */
  close(): void
}
