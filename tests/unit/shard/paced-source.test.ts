import { expect, test } from 'vitest'
import { paceSource } from '../../../src/shard/paced-source.ts'
import type { ModelSource } from '../../../src/shard/source.ts'

const source: ModelSource = {
  id: 'source',
  readFile: async () => new Uint8Array([1]),
  openRange: async ({ begin, end }) => ({
    version: null,
    fileBytes: 10_000_000,
    end,
    chunks: (async function* () {
      for (let at = begin; at < end; at += 100_000) yield new Uint8Array(Math.min(100_000, end - at))
    })(),
  }),
}

function createClock() {
  let nowMs = 0
  return {
    nowMs: () => nowMs,
    wait: async (ms: number) => {
      nowMs += ms
    },
    pass: (ms: number) => {
      nowMs += ms
    },
  }
}

async function read(paced: ModelSource, bytes: number): Promise<number> {
  let total = 0
  const { chunks } = await paced.openRange({ file: 'f', begin: 0, end: bytes })
  for await (const chunk of chunks) total += chunk.length
  return total
}

test('all ranges together stay at the pace', async () => {
  const clock = createClock()
  const paced = paceSource(source, 1_000_000, clock)
  expect(await Promise.all([read(paced, 2_000_000), read(paced, 1_000_000)])).toEqual([2_000_000, 1_000_000])
  expect(clock.nowMs()).toBeGreaterThan(2_500)
  expect(clock.nowMs()).toBeLessThanOrEqual(3_000)
})

test('a pause is made up for by a quarter of a second at most', async () => {
  const clock = createClock()
  const paced = paceSource(source, 1_000_000, clock)
  await read(paced, 500_000)
  clock.pass(60_000)
  const beforeMs = clock.nowMs()
  await read(paced, 1_000_000)
  expect(clock.nowMs() - beforeMs).toBeCloseTo(750, 0)
})

test('small files are not slowed down, and a stopped wait ends the reading', async () => {
  const clock = createClock()
  const paced = paceSource(source, 10, clock)
  await paced.readFile('config.json', { maxBytes: 10 })
  expect(clock.nowMs()).toBe(0)
  const stopped = paceSource(source, 10, { ...clock, wait: () => Promise.reject(new Error('stopped')) })
  await expect(read(stopped, 1_000)).rejects.toThrow('stopped')
})
