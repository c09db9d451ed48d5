import { describe, expect, test } from 'vitest'
import { createKvCache, kvCapacity } from '../../../src/shard/kv.ts'
import { type OnnxType, onnxTypeBytes } from '../../../src/shard/onnx-proto.ts'
import { fillMask } from '../../../src/shard/slot-binding.ts'

/** Tensors in ordinary memory, full of what was there before. */
function createMemory(room = Number.POSITIVE_INFINITY) {
  const state = { live: 0 }
  const createTensor = (type: OnnxType, dims: readonly number[]) => {
    if (state.live === room) throw new RangeError('no memory')
    state.live++
    const sizeBytes = dims.reduce((product, dim) => product * dim, onnxTypeBytes[type])
    const memory = new ArrayBuffer(sizeBytes)
    new Float32Array(memory).fill(Number.NaN)
    return { handle: 0n, type, dims, sizeBytes, memory, release: () => void state.live-- }
  }
  return { state, createTensor }
}

const shape = {
  nLayers: 2,
  keys: { blocks: [2], width: 3 },
  values: { blocks: [2, 3], width: 1 },
  maxPositions: 1_000,
}

describe('the KV of a session', () => {
  test('has room for what is asked, in steps of an eighth, and no more than was granted', () => {
    const steps = [1, 64, 65, 500, 513, 1_900, 5_000].map((positions) => kvCapacity(positions, 4_096))
    expect(steps).toEqual([64, 64, 128, 512, 576, 1_920, 4_096])
  })

  test('keeps what is filled where it grows, and is zero elsewhere', async () => {
    const memory = createMemory()
    const kv = createKvCache(shape, memory)
    await kv.grow(2, 0, () => {})
    const [first] = kv.layers
    new Float32Array(first?.keys.memory ?? new ArrayBuffer(0)).set([1, 2, 3, 4, 5, 6, 7, 8, 9])
    new Float32Array(first?.values.memory ?? new ArrayBuffer(0)).set([21, 22, 23], 64)
    const moved: number[] = []
    await kv.grow(65, 2, (index) => moved.push(index))
    expect(moved).toEqual([0, 1])
    expect(kv.capacity).toBe(128)
    const [grown] = kv.layers
    const keys = new Float32Array(grown?.keys.memory ?? new ArrayBuffer(0))
    expect([...keys.subarray(0, 9)]).toEqual([1, 2, 3, 4, 5, 6, 0, 0, 0])
    const values = new Float32Array(grown?.values.memory ?? new ArrayBuffer(0))
    expect([...values.subarray(128, 131)]).toEqual([21, 22, 0])
    for (const layer of kv.layers) {
      for (const { memory: bytes } of [layer.keys, layer.values]) {
        expect(new Float32Array(bytes).every(Number.isFinite)).toBe(true)
      }
    }
    expect(kv.sizeBytes).toBe(2 * 128 * 12 * 4)
    kv.release()
    expect(memory.state.live).toBe(0)
  })

  test('holds what it held when there is no memory to grow', async () => {
    const memory = createMemory(5)
    const kv = createKvCache(shape, memory)
    await kv.grow(10, 0, () => {})
    await expect(kv.grow(100, 10, () => {})).rejects.toThrow('no memory')
    expect(kv.capacity).toBe(64)
    expect(memory.state.live).toBe(4)
  })
})

describe('what a row sees', () => {
  const rowsOf = (mask: Float32Array, capacity: number) =>
    Array.from({ length: mask.length / capacity }, (_, row) =>
      [...mask.subarray(row * capacity, (row + 1) * capacity)].map((value) => (value === 0 ? 'x' : '.')).join(''),
    )

  test('itself and all before it, once for each query head', () => {
    const mask = new Float32Array(4 * 5)
    fillMask(mask, { pos: 2, rows: 2, capacity: 5, window: null })
    expect(rowsOf(mask, 5)).toEqual(['xxx..', 'xxxx.', 'xxx..', 'xxxx.'])
  })

  test('no further back than the window; a spare row sees everything', () => {
    const mask = new Float32Array(4 * 5)
    fillMask(mask, { pos: 1, rows: 3, capacity: 5, window: 2 })
    expect(rowsOf(mask, 5)).toEqual(['xx...', '.xx..', '..xx.', 'xxxxx'])
  })
})
