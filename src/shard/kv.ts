import { setImmediate } from 'node:timers/promises'
import { shardLimits } from '../base/limits.ts'
import type { OrtRuntime, OrtTensor } from './ort.ts'

/** Keys and values of one layer: [1, nKvHeads, capacity, headDim] f32 each. */
export interface KvLayer {
  readonly keys: OrtTensor
  readonly values: OrtTensor
}

/** The KV memory of one session: grows in steps, so that a short chat in a long reservation stays small. */
export interface KvCache {
  /** Positions that fit now. */
  readonly capacity: number
  readonly sizeBytes: number
  readonly layers: readonly KvLayer[]
  /** Positions that will fit once `positions` do. */
  capacityFor(positions: number): number
  /**
   * Makes room for `positions`, keeping the first `filled`. One layer after the other: `rebind` takes each new one
   * before the old one is freed, so that two copies of only one layer exist together. Only between runs. Throws
   * OUT_OF_MEMORY, and then holds what it held, some layers with more room than others.
   */
  grow(positions: number, filled: number, rebind: (index: number, layer: KvLayer) => void): Promise<void>
  release(): void
}

export interface KvShape {
  readonly nLayers: number
  readonly nKvHeads: number
  readonly headDim: number
  /** Positions that the session may ever hold, its spare row included. */
  readonly maxPositions: number
}

/** First step; the next ones double (engine.md §7). */
const firstCapacity = 256

export function kvBytesPerPosition(shape: { nKvHeads: number; headDim: number }): number {
  return 2 * shape.nKvHeads * shape.headDim * 4
}

/** The smallest step that holds `positions`, or the last one. */
function kvCapacity(positions: number, maxPositions: number): number {
  let capacity = firstCapacity
  while (capacity < positions) capacity *= 2
  return Math.min(capacity, maxPositions)
}

export function createKvCache(shape: KvShape, ort: Pick<OrtRuntime, 'createTensor'>): KvCache {
  const { nKvHeads, headDim } = shape
  const layers: KvLayer[] = []
  /** Each layer's own capacity: they differ only after a growth that failed half way. */
  const capacities: number[] = []

  const grown = (old: OrtTensor | undefined, from: number, to: number, filled: number): OrtTensor => {
    const tensor = ort.createTensor('f32', [1, nKvHeads, to, headDim])
    if (old !== undefined) {
      const source = new Float32Array(old.memory)
      const target = new Float32Array(tensor.memory)
      for (let head = 0; head < nKvHeads; head++) {
        const start = head * from * headDim
        target.set(source.subarray(start, start + filled * headDim), head * to * headDim)
      }
    }
    return tensor
  }

  return {
    layers,
    get capacity() {
      return capacities.length < shape.nLayers ? 0 : Math.min(...capacities)
    },
    get sizeBytes() {
      return capacities.reduce((sum, capacity) => sum + capacity, 0) * kvBytesPerPosition(shape)
    },
    capacityFor(positions) {
      return Math.max(this.capacity, kvCapacity(positions, shape.maxPositions))
    },
    async grow(positions, filled, rebind) {
      const capacity = kvCapacity(positions, shape.maxPositions)
      let copiedBytes = 0
      for (let i = 0; i < shape.nLayers; i++) {
        const old = layers[i]
        const from = capacities[i] ?? 0
        if (from >= positions) continue
        const keys = grown(old?.keys, from, capacity, filled)
        let values: OrtTensor
        try {
          values = grown(old?.values, from, capacity, filled)
        } catch (error) {
          keys.release()
          throw error
        }
        layers[i] = { keys, values }
        capacities[i] = capacity
        rebind(i, { keys, values })
        old?.keys.release()
        old?.values.release()
        copiedBytes += filled * kvBytesPerPosition(shape)
        if (copiedBytes >= shardLimits.copyBytes) {
          copiedBytes = 0
          await setImmediate()
        }
      }
    },
    release() {
      for (const layer of layers.splice(0)) {
        layer.keys.release()
        layer.values.release()
      }
      capacities.length = 0
    },
  }
}
