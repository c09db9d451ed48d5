import { describe, expect, test } from 'vitest'
import { type OnnxType, onnxTypeBytes } from '../../../src/shard/onnx-proto.ts'
import { createStaging, runRows } from '../../../src/shard/staging.ts'

/** Tensors in ordinary memory. */
function createMemory() {
  const state = { live: 0 }
  const createTensor = (type: OnnxType, dims: readonly number[]) => {
    const sizeBytes = dims.reduce((product, dim) => product * dim, onnxTypeBytes[type])
    state.live++
    return { handle: 0n, type, dims, sizeBytes, memory: new ArrayBuffer(sizeBytes), release: () => void state.live-- }
  }
  return { state, createTensor }
}

describe('rows of a run', () => {
  test('even for q4 and q8', () => {
    const rows = (recipe: 'f32/1' | 'i8/1' | 'q4/1' | 'q8/1') => [1, 2, 3, 40, 41].map((n) => runRows(recipe, n))
    expect(rows('f32/1')).toEqual([1, 2, 3, 40, 41])
    expect(rows('i8/1')).toEqual([1, 2, 3, 40, 41])
    expect(rows('q4/1')).toEqual([2, 2, 4, 40, 42])
    expect(rows('q8/1')).toEqual([2, 2, 4, 40, 42])
  })

  test('the dummy row is the last real one, and is not given back', () => {
    const staging = createStaging({ hiddenSize: 2, width: 3, keep: 2 }, createMemory())
    const buffers = staging.get(2)
    buffers.fill(Float32Array.of(5, 6))
    expect([...new Float32Array(buffers.input.memory)]).toEqual([5, 6, 5, 6])
    expect([...new Uint8Array(buffers.zeroPoints.memory)]).toEqual([128, 128])
    new Float32Array(buffers.output.memory).set([1, 2, 3, 4, 5, 6])
    expect([...buffers.take(1)]).toEqual([1, 2, 3])
    expect([...buffers.take(1, 1)]).toEqual([4, 5, 6])
  })

  test('only the last used row counts are kept, and all is given back', () => {
    const memory = createMemory()
    const staging = createStaging({ hiddenSize: 1, width: 1, keep: 2 }, memory)
    const two = staging.get(2)
    staging.get(4)
    expect(staging.get(2)).toBe(two)
    staging.get(6)
    expect(staging.get(2)).toBe(two)
    expect(memory.state.live).toBe(2 * 4)
    staging.release()
    expect(memory.state.live).toBe(0)
  })
})
