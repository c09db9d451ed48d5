/** `logits`: the tool that shows other engines, and other machines, what this one computes. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { LlmNodeError } from '../../src/base/errors.ts'
import { type LogitsOptions, runLogits, splitLayers } from '../../src/node/logits.ts'
import { digestTensors, type NamedTensor } from '../../src/node/logits-tensors.ts'
import { readF32 } from '../helpers/golden-tensors.ts'
import { tempFolder } from '../helpers/temp-folder.ts'

const demo = 'models/demo-qwen3'
const promptIds = Array.from({ length: 20 }, (_, i) => 40 + i * 7)
const base: LogitsOptions = { model: demo, promptIds, steps: 4, recipe: 'q4/1', threads: 1 }
const leftovers = () => readdirSync(tmpdir()).filter((name) => name.startsWith('llm-node-logits-'))

describe('logits', () => {
  test('the digest does not depend on split, rows or threads, and nothing stays behind', async () => {
    const before = leftovers()
    const whole = await runLogits({ ...base, hidden: true })
    const apart = await runLogits({ ...base, hidden: true, split: [4, 4, 4], rows: 3, threads: 2 })
    expect(apart.digest).toBe(whole.digest)
    expect(apart.greedy).toEqual(whole.greedy)
    const other = await runLogits({ ...base, hidden: true, promptIds: [...promptIds.slice(0, 19), 41] })
    expect(other.digest).not.toBe(whole.digest)
    expect(leftovers()).toEqual(before)
  })

  test('runs are those that were asked for', async () => {
    const { runs, ids, greedy } = await runLogits({ ...base, split: [5], rows: 8, threads: 2 })
    expect(ids).toEqual(promptIds)
    expect(greedy).toHaveLength(4)
    const spans = [
      { start: 0, end: 5 },
      { start: 5, end: 12 },
    ]
    const frames = [
      [0, 8],
      [8, 8],
      [16, 4],
      [20, 1],
      [21, 1],
      [22, 1],
    ]
    const expected = frames.flatMap(([pos, rows]) => spans.map((span) => ({ span, pos, rows, threads: 2 })))
    expect(runs).toMatchObject(expected)
    expect(runs).toHaveLength(expected.length)
  })

  test('the file holds what the digest is made of', async () => {
    const out = join(await tempFolder(), 'logits.safetensors')
    const { digest, greedy } = await runLogits({ ...base, hidden: true, out })
    const tensors = readF32(out)
    const names = [...Array.from({ length: 13 }, (_, i) => `hidden.${i}`), 'decode_logits', 'logits']
    expect([...tensors.keys()].sort()).toEqual([...names].sort())
    expect(tensors.get('logits')).toHaveLength(20 * 2048)
    const decode = tensors.get('decode_logits') ?? new Float32Array()
    const best = greedy
      .map((_, i) => decode.slice(i * 2048, (i + 1) * 2048))
      .map((row) => row.indexOf(Math.max(...row)))
    expect(best).toEqual(greedy)
    expect(decode.slice(0, 2048)).toEqual(tensors.get('logits')?.slice(19 * 2048))
    const list: NamedTensor[] = [...tensors].map(([name, data]) => ({ name, shape: [data.length], data }))
    expect(digestTensors(list)).toBe(digest)
    for (const { name, data } of list) {
      const bits = new Uint32Array(data.buffer, data.byteOffset, 1)
      bits[0] = (bits[0] ?? 0) ^ 1
      expect(digestTensors(list), `one bit of ${name}`).not.toBe(digest)
      bits[0] = (bits[0] ?? 0) ^ 1
    }
  })

  test('a longrope model starts anew with the long factors where its short ones end', async () => {
    const model = 'tests/golden/phi3-longrope-f16'
    const { cases, longrope_switch: expected } = JSON.parse(readFileSync(`${model}/expected.json`, 'utf8'))
    const prompt: number[] = cases[1].prompt_ids.slice(0, expected.prompt_length)
    const steps: number = expected.generate_ids.length
    const { greedy, runs } = await runLogits({ ...base, model, recipe: 'f32/1', promptIds: prompt, steps, split: [2] })
    expect(greedy).toEqual(expected.generate_ids)
    expect(runs.filter(({ pos, rows }) => pos === 0 && rows > 120)).toHaveLength(2)
  })

  test('what cannot be', async () => {
    const code = (options: Partial<LogitsOptions>) =>
      runLogits({ ...base, ...options }).then(
        () => 'fine',
        (error: unknown) => (error instanceof LlmNodeError ? error.code : error),
      )
    expect(await code({ promptIds: [] })).toBe('BAD_INPUT')
    expect(await code({ promptIds: [2048] })).toBe('BAD_INPUT')
    expect(await code({ promptIds: Array.from({ length: 2_049 }, () => 1), steps: 0 })).toBe('CONTEXT_TOO_LONG')
    expect(await code({ split: [6, 3] })).toBe('BAD_INPUT')
    expect(await code({ model: 'docs' })).toBe('MODEL_NOT_FOUND')
    expect(await code({ signal: AbortSignal.abort() })).toBe('ABORTED')
  })
})

interface GoldenCase {
  readonly name: string
  readonly file: string
  readonly prompt_ids: number[]
  readonly greedy_ids: number[]
}

const golden = 'tests/golden'
const fixtures = readdirSync(golden).filter((name) => existsSync(join(golden, name, 'expected.json')))

test.each(fixtures)('what transformers computes, and the same in parts: %s', async (fixture) => {
  const model = join(golden, fixture)
  const { cases } = JSON.parse(readFileSync(join(model, 'expected.json'), 'utf8')) as { cases: GoldenCase[] }
  for (const { name, file, prompt_ids: ids, greedy_ids: greedy } of cases) {
    const out = join(await tempFolder(), 'logits.safetensors')
    // Where the long factors of a longrope model hold for the whole prompt, it goes in one piece.
    const whole = { ...base, model, promptIds: ids, recipe: 'f32/1', steps: greedy.length, hidden: true, out } as const
    const { greedy: found, digest } = await runLogits(whole)
    expect(found, name).toEqual(greedy)
    const tensors = readF32(out)
    for (const [tensor, expected] of readF32(join(model, file))) {
      // The norm after the last layer is a part of the logits here.
      if (tensor === 'final_norm') continue
      expect(distance(tensors.get(tensor), expected), `${name} ${tensor}`).toBeLessThan(2e-4)
    }
    expect((await runLogits({ ...whole, out: undefined, split: [1, 2], rows: 50, threads: 2 })).digest).toBe(digest)
  }
})

/** Largest difference as a share of the largest expected value. */
function distance(actual: Float32Array = new Float32Array(), expected: Float32Array): number {
  expect(actual.length).toBe(expected.length)
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? 0))), 0) / largest
}

test('splitLayers takes cuts and lengths', () => {
  const ends = (split: number[]) => splitLayers(12, split).map(({ end }) => end)
  expect(splitLayers(12, undefined)).toEqual([{ start: 0, end: 12 }])
  expect(ends([3, 6, 9])).toEqual([3, 6, 9, 12])
  expect(ends([4, 8, 12])).toEqual([4, 8, 12])
  expect(ends([4, 4, 4])).toEqual([4, 8, 12])
  expect(ends([7, 2, 3])).toEqual([7, 9, 12])
  expect(() => splitLayers(12, [4, 4])).toThrow('does not cut')
  expect(() => splitLayers(12, [0, 12])).toThrow('does not cut')
  expect(() => splitLayers(12, [1.5, 4])).toThrow('does not cut')
})
