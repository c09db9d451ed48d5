/**
 * Ids in the order of the draw: largest value first, ties by lower id. A vocabulary has 150,000 ids and a draw looks at
 * a few of them, so nothing here sorts everything.
 */

/** A logit for each id. Finite, or −Infinity. */
export type Values = Float32Array | Float64Array

/** Ids of the k largest values, in order; values equal to the k-th are all kept, so ties give more than k. */
export function topIds(values: Values, k: number): Uint32Array {
  const threshold = k < values.length ? kthLargest(values, k) : Number.NEGATIVE_INFINITY
  const ids: number[] = []
  for (let id = 0; id < values.length; id++) if (at(values, id) >= threshold) ids.push(id)
  return sortIds(Uint32Array.from(ids), values)
}

/** Splits (max − value) / temperature into runs of this width; what lies beyond the last is one run. */
const RUN_WIDTH = 1 / 64
const RUNS = 40 / RUN_WIDTH

/** All ids in order, as runs that are sorted only when they are reached. Equal values are in one run. */
export function* descendingRuns(values: Values, max: number, temperature: number): Generator<Uint32Array> {
  const width = Math.max(RUN_WIDTH * temperature, Number.MIN_VALUE)
  const runOf = new Uint16Array(values.length)
  const starts = new Uint32Array(RUNS + 2)
  for (let id = 0; id < values.length; id++) {
    const run = Math.min(RUNS, Math.floor((max - at(values, id)) / width))
    runOf[id] = run
    starts[run + 1] = at(starts, run + 1) + 1
  }
  for (let run = 1; run < starts.length; run++) starts[run] = at(starts, run) + at(starts, run - 1)
  const next = starts.slice()
  const grouped = new Uint32Array(values.length)
  for (let id = 0; id < values.length; id++) {
    const run = at(runOf, id)
    const place = at(next, run)
    grouped[place] = id
    next[run] = place + 1
  }
  for (let run = 0; run <= RUNS; run++) {
    const ids = grouped.subarray(at(starts, run), at(starts, run + 1))
    if (ids.length > 0) yield sortIds(ids, values)
  }
}

/** In bounds by construction: the type system cannot know, and a check per element would cost more than the work. */
function at(values: Values | Uint32Array | Uint16Array, i: number): number {
  return values[i] as number
}

function sortIds(ids: Uint32Array, values: Values): Uint32Array {
  return ids.sort((a, b) => at(values, b) - at(values, a) || a - b)
}

/** The k-th largest value, by a heap of the k largest so far whose root is the smallest of them. 1 ≤ k ≤ length. */
function kthLargest(values: Values, k: number): number {
  const heap = new Float64Array(k).fill(Number.NEGATIVE_INFINITY)
  for (let id = 0; id < values.length; id++) {
    const value = at(values, id)
    if (value <= at(heap, 0)) continue
    let node = 0
    for (let child = 1; child < k; child = 2 * node + 1) {
      if (child + 1 < k && at(heap, child + 1) < at(heap, child)) child++
      if (at(heap, child) >= value) break
      heap[node] = at(heap, child)
      node = child
    }
    heap[node] = value
  }
  return at(heap, 0)
}
