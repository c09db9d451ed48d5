import { shardLimits } from '../base/limits.ts'
import type { OrtBinding } from './ort.ts'

/**
 * Runs bindings on a thread of the pool, or, where the last run of as many rows took next to no time, on this one: the
 * way to another thread and back costs more than a tiny model's step (measured: bench/toy.ts, 0.31 → 0.24 ms on a busy machine).
 */
export interface BriefRuns {
  run(binding: OrtBinding, rows: number): Promise<void>
}

export function createBriefRuns(): BriefRuns {
  /** The last run of so many rows in ms; at most as many entries as a run has rows. */
  const lastMs = new Map<number, number>()
  return {
    async run(binding, rows) {
      const startedMs = performance.now()
      if ((lastMs.get(rows) ?? Number.POSITIVE_INFINITY) < shardLimits.briefRunMs) binding.runHere()
      else await binding.run()
      lastMs.set(rows, performance.now() - startedMs)
    },
  }
}
