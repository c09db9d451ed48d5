import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createTokenizer, type Tokenizer } from '../../../src/model/tokenizer.ts'

const repository = join(import.meta.dirname, '../../..')
const golden = join(repository, 'tests/golden')
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))
const folderOf = (fixture: string) => join(fixture === 'demo-qwen3' ? join(repository, 'models') : golden, fixture)
const tokenizerJsonOf = (fixture: string) => readJson(join(folderOf(fixture), 'tokenizer.json'))
const tokenizerOf = (fixture: string) => createTokenizer({ tokenizerJson: tokenizerJsonOf(fixture) })

interface PublishedVectors {
  package: string
  file: string
  sha256: string
  add_special_tokens_Hi: number[]
  cases: { text: string; ids: number[]; decoded: string }[]
}

interface RandomVectors {
  sets: {
    fixture: string
    cases: {
      text: string
      ids: number[]
      with_special: number[]
      decoded: string
      noise: number[]
      noise_decoded: string
      noise_without_special: string
    }[]
  }[]
}

interface ModelVectors {
  cases: {
    prompt_text?: string
    rendered?: string
    add_special_tokens?: boolean
    prompt_ids: number[]
    greedy_ids: number[]
    greedy_text: string
  }[]
}

/** Ids one by one: what a reader of the stream sees. */
function streamed(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean): string[] {
  const detokenizer = tokenizer.createDetokenizer({ skipSpecialTokens })
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()]
}

describe.each(['qwen3', 'llama3'])('published tokenizer %s', (name) => {
  const vectors: PublishedVectors = readJson(join(golden, `tokenizers/${name}.json`))
  const bytes = readFileSync(createRequire(import.meta.url).resolve(`${vectors.package}/${vectors.file}`))
  const tokenizer = createTokenizer({ tokenizerJson: JSON.parse(bytes.toString('utf8')) })

  test('is the file that the vectors were made of', () => {
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(vectors.sha256)
  })

  test('gives the ids of the Rust library', () => {
    for (const { text, ids } of vectors.cases) {
      expect(tokenizer.encode(text, { addSpecialTokens: false }), JSON.stringify(text)).toEqual(ids)
    }
    expect(tokenizer.encode('Hi', { addSpecialTokens: true })).toEqual(vectors.add_special_tokens_Hi)
  })

  test('gives the text of the Rust library, whole and streamed', () => {
    for (const { ids, decoded } of vectors.cases) {
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded)
      expect(streamed(tokenizer, ids, false).join('')).toBe(decoded)
    }
  })

  test('never gives out a part of a character', () => {
    for (const { ids, decoded } of vectors.cases) {
      if (decoded.includes('\ufffd')) continue
      for (const delta of streamed(tokenizer, ids, false))
        expect(delta.isWellFormed() && !delta.includes('\ufffd')).toBe(true)
    }
  })
})

const random: RandomVectors = readJson(join(golden, 'tokenizers/random-text.json'))

describe.each(random.sets.map((set) => [set.fixture, set.cases] as const))('random text: %s', (fixture, cases) => {
  const tokenizer = tokenizerOf(fixture)

  test('ids, with and without special tokens', () => {
    for (const each of cases) {
      expect(tokenizer.encode(each.text, { addSpecialTokens: false }), JSON.stringify(each.text)).toEqual(each.ids)
      expect(tokenizer.encode(each.text, { addSpecialTokens: true })).toEqual(each.with_special)
    }
  })

  test('text, of these ids and of any ids', () => {
    for (const each of cases) {
      expect(tokenizer.decode(each.ids, { skipSpecialTokens: false })).toBe(each.decoded)
      expect(tokenizer.decode(each.noise, { skipSpecialTokens: false })).toBe(each.noise_decoded)
      expect(tokenizer.decode(each.noise, { skipSpecialTokens: true })).toBe(each.noise_without_special)
    }
  })

  test('a stream gives the same text in whole characters', () => {
    const id = fc.nat(tokenizer.nTokens + 2)
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), fc.boolean(), (ids, skip) => {
        const deltas = streamed(tokenizer, ids, skip)
        expect(deltas.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens: skip }))
        for (const delta of deltas) expect(delta.isWellFormed()).toBe(true)
      }),
    )
  })

  test('the bytes of the tokens are the bytes of the text', () => {
    for (const each of cases) {
      if (each.decoded.includes('\ufffd')) continue
      const bytes = Buffer.concat(each.ids.map((id) => tokenizer.tokenBytes(id)))
      expect(bytes.toString('utf8').trimStart()).toBe(each.decoded.trimStart())
    }
  })
})

const models = ['demo-qwen3', 'llama-mha-f16', 'llama3-bf16', 'mistral-f32', 'phi3-bf16', 'phi3-longrope-f16']
test.each([...models, 'qwen2-bf16', 'qwen3-sharded-f32', 'qwen3-tied-bf16'])('prompts and answers of %s', (fixture) => {
  const tokenizer = tokenizerOf(fixture)
  const { cases }: ModelVectors = readJson(join(folderOf(fixture), 'expected.json'))
  expect(cases.length).toBeGreaterThan(0)
  for (const each of cases) {
    const prompt = each.prompt_text ?? each.rendered ?? ''
    expect(tokenizer.encode(prompt, { addSpecialTokens: each.add_special_tokens ?? false })).toEqual(each.prompt_ids)
    expect(tokenizer.decode(each.greedy_ids, { skipSpecialTokens: false })).toBe(each.greedy_text)
  }
})

test('tells its tokens', () => {
  const tokenizer = tokenizerOf('demo-qwen3')
  expect(tokenizer.nTokens).toBe(2048)
  expect([...tokenizer.specialIds]).toEqual([2045, 2046, 2047])
  expect(tokenizer.idOf('<|im_end|>')).toBe(2047)
  expect(tokenizer.idOf('no such token')).toBeUndefined()
  expect(tokenizer.tokenText(2047)).toBe('<|im_end|>')
  expect(tokenizer.tokenText(5000)).toBe('')
  const [first = -1] = tokenizer.encode('é', { addSpecialTokens: false })
  expect(tokenizer.tokenBytes(first)).toEqual(Uint8Array.of(0xc3))
  expect(tokenizer.tokenText(first)).toBe('\ufffd')
  expect(tokenizer.decode([], { skipSpecialTokens: false })).toBe('')
})

describe('refuses what would give other ids', () => {
  const demo = tokenizerJsonOf('demo-qwen3')
  const llama = tokenizerJsonOf('llama-mha-f16')
  const split = demo.pre_tokenizer.pretokenizers[0]
  const strip = llama.decoder.decoders[3]
  test.each([
    ['the file', 'text'],
    ['model', {}],
    ['model.type WordPiece', { ...demo, model: { ...demo.model, type: 'WordPiece' } }],
    ['model.merges', { ...demo, model: { ...demo.model, merges: undefined } }],
    ['model.dropout', { ...demo, model: { ...demo.model, dropout: 0.1 } }],
    ['model.continuing_subword_prefix', { ...demo, model: { ...demo.model, continuing_subword_prefix: '##' } }],
    ['model.end_of_word_suffix', { ...demo, model: { ...demo.model, end_of_word_suffix: '</w>' } }],
    ['token id -1', { ...demo, model: { ...demo.model, vocab: { ...demo.model.vocab, x: -1 } } }],
    ['token id 1e+99', { ...demo, model: { ...demo.model, vocab: { ...demo.model.vocab, x: 1e99 } } }],
    ['normalizer Lowercase', { ...demo, normalizer: { type: 'Sequence', normalizers: [{ type: 'Lowercase' }] } }],
    ['pre_tokenizer Whitespace', { ...demo, pre_tokenizer: { type: 'Whitespace' } }],
    ['MergedWithNext', { ...demo, pre_tokenizer: { ...split, behavior: 'MergedWithNext' } }],
    ['add_prefix_space', { ...demo, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } }],
    ['Metaspace with split', { ...demo, pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' } }],
    ['post_processor BertProcessing', { ...demo, post_processor: { type: 'BertProcessing' } }],
    ['single_word', { ...demo, added_tokens: [{ ...demo.added_tokens[0], single_word: true }] }],
    ['added_tokens[0]', { ...demo, added_tokens: [{ id: 1 }] }],
    ['decoder', { ...demo, decoder: null }],
    ['decoder.type WordPiece', { ...demo, decoder: { type: 'WordPiece' } }],
    [
      'Fuse, ByteFallback',
      { ...llama, decoder: { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'ByteFallback' }] } },
    ],
    ['Strip', { ...llama, decoder: { type: 'Sequence', decoders: [{ type: 'Fuse' }, { ...strip, stop: 1 }] } }],
    [
      'Replace',
      {
        ...llama,
        decoder: { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { Regex: 'a' }, content: '' }] },
      },
    ],
  ])('%s', (what, tokenizerJson) => {
    expect(() => createTokenizer({ tokenizerJson })).toThrow(
      expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining(what) }),
    )
  })
})
