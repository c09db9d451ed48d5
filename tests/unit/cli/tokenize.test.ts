import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { runTokenize, type TokenizeOptions } from '../../../src/cli/tokenize.ts'

const demo = join(import.meta.dirname, '../../../models/demo-qwen3')
let folder: string
let output: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llm-node-tokenize-'))
  output = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    output += text
    return true
  })
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rm(folder, { recursive: true, force: true })
})

async function tokenize(stdin: string, options: Partial<TokenizeOptions> = {}): Promise<string> {
  const bytes = Buffer.from(stdin)
  const half = bytes.length >> 1
  const chunks = (async function* () {
    yield bytes.subarray(0, half)
    yield bytes.subarray(half)
  })()
  await runTokenize({ model: demo, special: false, json: true, stdin: chunks, ...options })
  return output
}

test('one item per line, whatever the chunks are', async () => {
  const { schema, items } = JSON.parse(await tokenize('What is llm-node?\n\né \r\nlast'))
  expect(schema).toBe('llm-node/tokenize/1')
  expect(items.map((item: { text: string }) => item.text)).toEqual(['What is llm-node?', '', 'é \r', 'last'])
  expect(items[0].ids).toEqual([324, 280, 380, 341, 30])
  expect(items[1].ids).toEqual([])
})

test('no input, no items', async () => {
  expect(JSON.parse(await tokenize('')).items).toEqual([])
})

test('a chat is rendered up to the assistant’s turn', async () => {
  const chat = join(folder, 'chat.json')
  await writeFile(chat, JSON.stringify([{ role: 'user', content: 'What is llm-node?' }]))
  expect(JSON.parse(await tokenize('', { chat })).items).toEqual([
    {
      ids: [2046, 270, 198, 324, 280, 380, 341, 30, 2047, 198, 2046, 269, 198],
      text: '<|im_start|>user\nWhat is llm-node?<|im_end|>\n<|im_start|>assistant\n',
    },
  ])
})

test('for people: ids and text on one line', async () => {
  expect(await tokenize('a "b"\n', { json: false })).toMatch(/^\d+( \d+)*\t"a \\"b\\""\n$/)
})

test.each(['{}', '[]', '[1]', 'no json'])('%s is no chat', async (content) => {
  const chat = join(folder, 'chat.json')
  await writeFile(chat, content)
  await expect(tokenize('', { chat })).rejects.toMatchObject({ code: 'BAD_INPUT' })
})

test('says what is wrong with a folder', async () => {
  await expect(tokenize('', { model: folder })).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
  await writeFile(join(folder, 'tokenizer.json'), '{')
  await expect(tokenize('', { model: folder })).rejects.toMatchObject({ code: 'MODEL_CORRUPT' })
  await expect(tokenize('', { chat: join(folder, 'none.json') })).rejects.toMatchObject({ code: 'BAD_INPUT' })
})
