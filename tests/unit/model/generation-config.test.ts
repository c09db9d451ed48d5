import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseGenerationConfig } from '../../../src/model/generation-config.ts'

const golden = join(import.meta.dirname, '../../golden')
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))

test.each([
  ['llama3-bf16', [315, 318, 319], { temperature: 0.6, topP: 0.9 }],
  ['qwen2-bf16', [315, 317], { temperature: 0.7, topK: 20, topP: 0.8, repetitionPenalty: 1.1 }],
  ['phi3-bf16', [435, 436, 438], {}],
])('%s', (name, endTokens, sampling) => {
  const generationConfig = readJson(join(golden, name, 'generation_config.json'))
  const config = readJson(join(golden, name, 'config.json'))
  expect(parseGenerationConfig({ generationConfig, config })).toEqual({ endTokens, sampling })
})

test('end tokens come from both files', () => {
  const { endTokens } = parseGenerationConfig({
    generationConfig: { eos_token_id: [9, 3] },
    config: { eos_token_id: 5 },
  })
  expect(endTokens).toEqual([3, 5, 9])
  expect(parseGenerationConfig({ config: { eos_token_id: [3, 3] } }).endTokens).toEqual([3])
  expect(parseGenerationConfig({ config: { eos_token_id: null } }).endTokens).toEqual([])
})

test('do_sample false means greedy', () => {
  const generationConfig = { do_sample: false, temperature: 0.7, top_p: 0.9 }
  expect(parseGenerationConfig({ generationConfig, config: {} }).sampling).toEqual({ temperature: 0, topP: 0.9 })
})

test('values that make no sense are left out', () => {
  const generationConfig = {
    temperature: 'hot',
    top_k: 2.5,
    top_p: 7,
    min_p: -1,
    repetition_penalty: 0,
    eos_token_id: ['x', -1, 1.5, 4],
  }
  expect(parseGenerationConfig({ generationConfig, config: null })).toEqual({ endTokens: [4], sampling: {} })
  expect(parseGenerationConfig({ generationConfig: [], config: 'x' })).toEqual({ endTokens: [], sampling: {} })
})
