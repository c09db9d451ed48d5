import { setImmediate } from 'node:timers/promises'
import { shardLimits } from '../base/limits.ts'
import type { OrtRuntime, OrtTensor } from './ort.ts'

/** Keys and values of one layer, f32: [...blocks, capacity, width] each. */
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
   * Makes room for `positions`, keeping the first `filled`; what is not filled is zero. One layer after the other:
   * `rebind` takes each new one before the old one is freed, so that two copies of only one layer exist together. Only
   * between runs. Throws OUT_OF_MEMORY, and then holds what it held, some layers with more room than others.
   */
  grow(positions: number, filled: number, rebind: (index: number, layer: KvLayer) => void): Promise<void>
  release(): void
}

/** How the positions of a tensor lie: `width` values of each, one block of all positions after the other. */
export interface KvPart {
  readonly blocks: readonly number[]
  readonly width: number
}

export interface KvShape {
  readonly nLayers: number
  readonly keys: KvPart
  readonly values: KvPart
  /** Positions that the session may ever hold, its spare row included. */
  readonly maxPositions: number
}

/** First step, and the least one. */
const firstCapacity = 64
/** Later ones are this share of what there is: attention reads the whole capacity, growing copies it. */
const stepShare = 8

export function kvBytesPerPosition(shape: { nKvHeads: number; headDim: number }): number {
  return 2 * shape.nKvHeads * shape.headDim * 4
}

/** The smallest step that holds `positions`, or the last one. */
export function kvCapacity(positions: number, maxPositions: number): number {
  const step = Math.max(firstCapacity, 2 ** Math.floor(Math.log2(positions)) / stepShare)
  return Math.min(Math.ceil(positions / step) * step, maxPositions)
}

export function createKvCache(shape: KvShape, ort: Pick<OrtRuntime, 'createTensor'>): KvCache {
  const layers: KvLayer[] = []
  /** Each layer's own capacity: they differ only after a growth that failed half way. */
  const capacities: number[] = []
  const bytesPerPosition = 4 * (valuesPerPosition(shape.keys) + valuesPerPosition(shape.values))

  const grown = (part: KvPart, old: OrtTensor | undefined, from: number, to: number, filled: number): OrtTensor => {
    const tensor = ort.createTensor('f32', [...part.blocks, to, part.width])
    const target = new Float32Array(tensor.memory)
    const source = new Float32Array(old?.memory ?? new ArrayBuffer(0))
    const kept = filled * part.width
    for (let start = 0, at = 0; at < target.length; start += from * part.width, at += to * part.width) {
      if (kept > 0) target.set(source.subarray(start, start + kept), at)
      // Attention multiplies what no row sees by zero, which only finite values survive.
      target.fill(0, at + kept, at + to * part.width)
    }
    return tensor
  }

  return {
    layers,
    get capacity() {
      return capacities.length < shape.nLayers ? 0 : Math.min(...capacities)
    },
    get sizeBytes() {
      return capacities.reduce((sum, capacity) => sum + capacity, 0) * bytesPerPosition
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
        const kept = Math.min(filled, from)
        const keys = grown(shape.keys, old?.keys, from, capacity, kept)
        let values: OrtTensor
        try {
          values = grown(shape.values, old?.values, from, capacity, kept)
        } catch (error) {
          keys.release()
          throw error
        }
        layers[i] = { keys, values }
        capacities[i] = capacity
        rebind(i, { keys, values })
        old?.keys.release()
        old?.values.release()
        copiedBytes += capacity * bytesPerPosition
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

function valuesPerPosition({ blocks, width }: KvPart): number {
  return blocks.reduce((product, size) => product * size, width)
}
