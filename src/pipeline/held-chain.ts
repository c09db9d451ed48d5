import type { OpenedChain } from './entry.ts'

/** A chain together with the ids whose keys and values it holds. */
export interface HeldChain {
  readonly opened: OpenedChain
  readonly ids: readonly number[]
  /** On the monotonic clock. */
  readonly openedMs: number
}
