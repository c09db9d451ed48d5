import type { ModelSpec } from '../model/spec.ts'

/** Weights of a layer below which a second thread costs a decode step more than it saves (measured, 2 cores). */
const worthwhileWeights = 1_000_000

/**
 * Threads of a run for this model, of those that are `available`. A layer of 0.2 million weights takes 45 µs with one
 * thread and 70 with two, of 0.8 million the same with both; of 12.6 million 0.9 ms and 0.65 (q4 and i8, 2 rows).
 */
export function suggestedThreads(spec: ModelSpec, available: number): number {
  const [first] = spec.layers
  const weights = first?.linears.reduce((sum, { k, n }) => sum + k * n, 0) ?? 0
  return weights < worthwhileWeights ? 1 : available
}
