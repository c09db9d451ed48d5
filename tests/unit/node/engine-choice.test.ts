import { expect, test } from 'vitest'
import { parseConfig } from '../../../src/base/config.ts'
import { assertProvider, chooseEngine, examNotes } from '../../../src/node/engine-choice.ts'
import { type EntryModel, planChain } from '../../../src/pipeline/entry.ts'
import type { SpanRunner } from '../../../src/shard/runner.ts'
import { loadModel } from '../../helpers/golden.ts'

const { spec } = loadModel('tests/golden/phi3-bf16', [])
const config = (provider: string) => parseConfig({ engine: { provider, threads: 2 } }).engine
const numericsClass = new Uint8Array(32)

test('what breaks is said in words, and threads alone break nothing that one thread does not mend', () => {
  expect(examNotes({ numericsClass, broken: [], exact: true, singleThread: false })).toEqual([])
  expect(examNotes({ numericsClass, broken: ['threads'], exact: true, singleThread: true })).toEqual([
    expect.stringContaining('one thread computes'),
  ])
  expect(examNotes({ numericsClass, broken: ['rows', 'products'], exact: false, singleThread: false })).toEqual([
    'Not true on this machine: rows come out alike however a prompt is cut; the largest values are multiplied without ' +
      'overflow. Its answers are not promised to be those of other nodes.',
  ])
})

test('the engine that is chosen: what the configuration says, and why not the GPU', async () => {
  const cpu = await chooseEngine(config('cpu'), { spec, recipe: 'q4/1' })
  expect(cpu).toMatchObject({ provider: 'cpu', threads: 2, notes: [], exam: { exact: true } })
  const auto = await chooseEngine(config('auto'), { spec, recipe: 'q4/1' })
  expect(auto).toMatchObject({ provider: 'cpu', notes: [expect.stringMatching(/^The processor computes\. CUDA/)] })
  await expect(chooseEngine(config('cuda'), { spec, recipe: 'q4/1' })).rejects.toMatchObject({
    code: 'ENGINE_UNAVAILABLE',
  })
  await expect(assertProvider(config('cuda'), 'i8')).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
  expect(() => config('gpu')).toThrow('engine.provider')
})

test('a machine that breaks a rule promises nothing, even alone', () => {
  const runner = { span: { start: 0, end: spec.nLayers }, freeKvTokens: 1_000 } as SpanRunner
  const model: EntryModel = {
    ...{ name: 'm', modelId: numericsClass, spec, recipe: 'q4/1' },
    ...{ numericsClass: 'aa', runner, localDecodeMs: 1, endsMs: 1 },
  }
  const nobody = { holders: () => [] }
  expect(planChain(model, { maxContext: 10, solo: true }, nobody).exact).toBe(true)
  expect(planChain({ ...model, inexact: true }, { maxContext: 10, solo: true }, nobody).exact).toBe(false)
})
