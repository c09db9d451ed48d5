import { describe, expect, test } from 'vitest'
import { createHeadQueue } from '../../../src/shard/head-queue.ts'
import type { OrtTensor } from '../../../src/shard/ort.ts'

const none: OrtTensor = { handle: 0n, type: 'f32', dims: [], sizeBytes: 0, memory: new ArrayBuffer(0), release() {} }

/** A head of two logits a row: the row's value, and the number of rows in its run. */
function createHead() {
  const runs: number[] = []
  const queue = createHeadQueue({
    hiddenSize: 1,
    vocabSize: 2,
    maxRows: 4,
    async run(parts, nTokens) {
      runs.push(nTokens)
      const rows = parts.flatMap((part) => [...part])
      await new Promise((resolve) => setImmediate(resolve))
      if (rows.includes(13)) throw new RangeError('an unlucky row')
      const output = Float32Array.from(rows.flatMap((row) => [row, nTokens]))
      const take = (count: number, from = 0) => output.slice(from * 2, (from + count) * 2)
      return { input: none, output: none, zeroPoints: none, positions: none, fill() {}, take }
    },
  })
  return { runs, queue }
}

describe('rows of several callers', () => {
  test('share the next run, and from then on the first one, too', async () => {
    const { runs, queue } = createHead()
    const call = () => Promise.all([1, 2, 3].map((value) => queue.logits(Float32Array.of(value))))
    expect((await call()).map((rows) => [...rows])).toEqual([
      [1, 1],
      [2, 2],
      [3, 2],
    ])
    await call()
    expect(runs).toEqual([1, 2, 3])
    await queue.logits(Float32Array.of(7))
    await queue.logits(Float32Array.of(7))
    expect(runs).toEqual([1, 2, 3, 1, 1])
  })

  test('more than fit are several runs, in order', async () => {
    const { runs, queue } = createHead()
    const rows = await queue.logits(Float32Array.from({ length: 9 }, (_, i) => i))
    expect([...rows].filter((_, i) => i % 2 === 0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    expect(runs).toEqual([4, 4, 1])
    await queue.idle()
  })

  test('a run that fails, fails for those in it', async () => {
    const { queue } = createHead()
    const first = queue.logits(Float32Array.of(1))
    const [bad, beside] = [queue.logits(Float32Array.of(13)), queue.logits(Float32Array.of(2))]
    await expect(bad).rejects.toThrow('unlucky')
    await expect(beside).rejects.toThrow('unlucky')
    expect([...(await first)]).toEqual([1, 1])
    expect([...(await queue.logits(Float32Array.of(5)))]).toEqual([5, 1])
  })
})
