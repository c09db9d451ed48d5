import { describe, expect, it } from 'vitest'
import { createTestApi } from './app-helpers.ts'

type Body = { error: { message: string; type: string; param: string | null; code: string | null } }
const bodyOf = async (response: Response) => (await response.json()) as Body

describe('a chat request', () => {
  it.each<[string, object, object]>([
    ['nothing', {}, { where: 'auto', maxTokens: undefined, sampling: {}, stop: [] }],
    ['max_tokens', { max_tokens: 9 }, { maxTokens: 9 }],
    ['max_completion_tokens', { max_completion_tokens: 9 }, { maxTokens: 9 }],
    ['both, equal', { max_tokens: 9, max_completion_tokens: 9 }, { maxTokens: 9 }],
    ['temperature', { temperature: 0 }, { sampling: { temperature: 0 } }],
    ['top_p', { top_p: 0.5 }, { sampling: { topP: 0.5 } }],
    ['top_k', { top_k: 40 }, { sampling: { topK: 40 } }],
    ['top_k off', { top_k: -1 }, { sampling: { topK: 0 } }],
    ['min_p', { min_p: 0.1 }, { sampling: { minP: 0.1 } }],
    ['repetition_penalty', { repetition_penalty: 1.1 }, { sampling: { repetitionPenalty: 1.1 } }],
    ['frequency_penalty', { frequency_penalty: -2 }, { sampling: { frequencyPenalty: -2 } }],
    ['presence_penalty', { presence_penalty: 2 }, { sampling: { presencePenalty: 2 } }],
    ['ignore_eos', { ignore_eos: true }, { ignoreEnd: true }],
    ['a profile', { llm_node: { profile: 'guarded' } }, { profile: 'guarded' }],
    [
      'how an answer is looked after',
      {
        llm_node: {
          resume: 'gen-1',
          persist: false,
          exact: false,
          hedge: true,
          first_token_ms: 5,
          total_ms: 7,
          wait_ms: 0,
        },
      },
      {
        resume: 'gen-1',
        run: {
          ...{ persist: false, exact: false, hedge: true, totalMs: 7, suspendMs: 0 },
          patience: { firstTokenMs: 5, tokenMs: undefined },
        },
      },
    ],
    ['seed', { seed: -5 }, { sampling: { seed: -5 } }],
    ['stop, one', { stop: 'x' }, { stop: ['x'] }],
    ['stop, some', { stop: ['x', 'y'] }, { stop: ['x', 'y'] }],
    ['logprobs', { logprobs: true }, { sampling: { logprobs: 0 } }],
    ['top_logprobs', { logprobs: true, top_logprobs: 20 }, { sampling: { logprobs: 20 } }],
    ['@local', { model: 'demo@local' }, { model: 'demo', where: 'local' }],
    ['@swarm', { model: 'demo@swarm' }, { model: 'demo', where: 'swarm' }],
    [
      'chat_template_kwargs',
      { chat_template_kwargs: { enable_thinking: false } },
      { prompt: { messages: [{ role: 'user', content: 'Hi' }], templateKwargs: { enable_thinking: false } } },
    ],
    [
      'null for everything',
      { temperature: null, top_p: null, seed: null, stop: null, max_tokens: null, n: null, tools: null, user: null },
      { sampling: {}, stop: [], maxTokens: undefined },
    ],
    [
      'what asks for nothing',
      {
        n: 1,
        tools: [],
        tool_choice: 'none',
        logit_bias: {},
        response_format: { type: 'text' },
        modalities: ['text'],
        user: 'me',
        metadata: { a: 'b' },
        store: false,
        service_tier: 'auto',
      },
      { sampling: {} },
    ],
  ])('takes %s', async (_what, fields, expected) => {
    const api = createTestApi()
    const response = await api.chat(fields)
    expect(await response.clone().text()).not.toContain('error')
    expect(response.status).toBe(200)
    expect(api.calls).toHaveLength(1)
    expect(api.calls[0]).toMatchObject(expected)
    if ('sampling' in expected) expect(api.calls[0]?.sampling).toEqual(expected.sampling)
  })

  it('gives every kind of message to the template', async () => {
    const api = createTestApi()
    await api.chat({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
          name: 'Ann',
        },
        { role: 'assistant', content: null, reasoning_content: 'hm', tool_calls: [], refusal: null },
        { role: 'user', content: 'Hi' },
      ],
    })
    expect(api.calls[0]?.prompt).toMatchObject({
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'a\nb', name: 'Ann' },
        { role: 'assistant', content: '', reasoning_content: 'hm' },
        { role: 'user', content: 'Hi' },
      ],
    })
  })

  it.each<[object, string | null, RegExp]>([
    [{ n: 2 }, 'n', /not supported/],
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools', /not supported/],
    [{ tool_choice: 'required' }, 'tool_choice', /not supported/],
    [{ functions: [{ name: 'f' }] }, 'functions', /not supported/],
    [{ logit_bias: { 5: 10 } }, 'logit_bias', /not supported/],
    [{ response_format: { type: 'json_object' } }, 'response_format.type', /"json_object" is not supported/],
    [{ response_format: { type: 'json_schema', json_schema: {} } }, 'response_format.type', /not supported/],
    [{ modalities: ['text', 'audio'] }, 'modalities', /not supported/],
    [{ audio: { voice: 'alloy' } }, 'audio', /not supported/],
    [{ prediction: { type: 'content' } }, 'prediction', /not supported/],
    [{ reasoning_effort: 'low' }, 'reasoning_effort', /not supported/],
    [{ web_search_options: {} }, 'web_search_options', /not supported/],
    [{ temprature: 1 }, 'temprature', /Unrecognized/],
    [{ temperature: 2.1 }, 'temperature', /temperature/],
    [{ temperature: '1' }, 'temperature', /temperature/],
    [{ top_p: -0.1 }, 'top_p', /top_p/],
    [{ max_tokens: 0 }, 'max_tokens', /max_tokens/],
    [{ max_tokens: 1.5 }, 'max_tokens', /max_tokens/],
    [{ max_tokens: 1, max_completion_tokens: 2 }, 'max_tokens', /different/],
    [{ frequency_penalty: 3 }, 'frequency_penalty', /frequency_penalty/],
    [{ presence_penalty: -3 }, 'presence_penalty', /presence_penalty/],
    [{ llm_node: { profile: 'loud' } }, 'llm_node.profile', /profile/],
    [{ seed: 0.5 }, 'seed', /seed/],
    [{ stop: '' }, 'stop', /stop/],
    [{ stop: Array(17).fill('x') }, 'stop', /stop/],
    [{ top_logprobs: 2 }, 'top_logprobs', /logprobs: true/],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs', /top_logprobs/],
    [{ logprobs: 3 }, 'logprobs', /logprobs/],
    [{ stream_options: { include_usage: true } }, 'stream_options', /stream: true/],
    [{ messages: [] }, 'messages', /messages/],
    [{ messages: undefined }, 'messages', /messages/],
    [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages[0].role', /"tool" are not supported/],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content', /no content/],
    [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content', /content/],
    [
      {
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'a' },
              { type: 'image_url', image_url: {} },
            ],
          },
        ],
      },
      'messages[0].content[1].type',
      /"image_url" are not supported/,
    ],
    [{ messages: [{ role: 'assistant', tool_calls: [{ id: 'x' }] }] }, 'messages[0].tool_calls', /not supported/],
    [{ chat_template_kwargs: { deep: { er: 1 } } }, 'chat_template_kwargs.deep', /chat_template_kwargs/],
    [{ model: undefined }, 'model', /model/],
  ])('refuses %j', async (fields, param, message) => {
    const api = createTestApi()
    const response = await api.chat(fields)
    expect(response.status).toBe(400)
    const { error } = await bodyOf(response)
    expect(error).toMatchObject({ type: 'invalid_request_error', param })
    expect(error.message).toMatch(message)
    expect(api.calls).toEqual([])
  })

  it.each([
    ['{"model":', /not valid JSON/],
    ['[]', /./],
    ['"text"', /./],
    ['null', /./],
    ['['.repeat(50_000), /not valid JSON/],
    [`{"a":${'['.repeat(50_000)}${']'.repeat(50_000)}}`, /./],
  ])('refuses a body that is no request', async (body, message) => {
    const response = await createTestApi().post('/v1/chat/completions', body)
    expect(response.status).toBe(400)
    expect((await bodyOf(response)).error.message).toMatch(message)
  })

  it('refuses other media types', async () => {
    const api = createTestApi()
    const response = await api.request('/v1/chat/completions', { method: 'POST', body: '{}' })
    expect(response.status).toBe(400)
    expect((await bodyOf(response)).error.message).toMatch(/application\/json/)
  })

  it.each(['gpt-4o', 'demo@mars', '@local', 'demo@'])('does not know %s', async (model) => {
    const response = await createTestApi().chat({ model })
    expect(response.status).toBe(404)
    expect((await bodyOf(response)).error).toMatchObject({ param: 'model', code: 'model_not_found' })
  })
})

describe('a completion request', () => {
  const complete = (fields: object) => {
    const api = createTestApi()
    return api
      .post('/v1/completions', { model: 'demo', prompt: 'Hi', ...fields })
      .then((response) => ({ api, response }))
  }

  it.each<[object, object]>([
    [{}, { prompt: { text: 'Hi' }, maxTokens: 16 }],
    [{ prompt: ['Hi'] }, { prompt: { text: 'Hi' } }],
    [{ prompt: [1, 2] }, { prompt: { ids: [1, 2] } }],
    [{ prompt: [[1, 2]] }, { prompt: { ids: [1, 2] } }],
    [
      { max_tokens: 3, temperature: 0.1 },
      { maxTokens: 3, sampling: { temperature: 0.1 } },
    ],
    [{ logprobs: 2 }, { sampling: { logprobs: 2 } }],
    [{ n: 1, best_of: 1, suffix: null, logit_bias: {} }, {}],
  ])('takes %j', async (fields, expected) => {
    const { api, response } = await complete(fields)
    expect(response.status).toBe(200)
    expect(api.calls[0]).toMatchObject(expected)
  })

  it.each<[object, string]>([
    [{ prompt: ['a', 'b'] }, 'prompt'],
    [{ prompt: [[1], [2]] }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: [-1] }, 'prompt[0]'],
    [{ prompt: undefined }, 'prompt'],
    [{ n: 2 }, 'n'],
    [{ best_of: 3 }, 'best_of'],
    [{ suffix: 'x' }, 'suffix'],
    [{ echo: true, logprobs: 1 }, 'echo'],
    [{ echo: true, prompt: [1] }, 'echo'],
    [{ logprobs: true }, 'logprobs'],
    [{ messages: [] }, 'messages'],
  ])('refuses %j', async (fields, param) => {
    const { api, response } = await complete(fields)
    expect(response.status).toBe(400)
    expect((await bodyOf(response)).error).toMatchObject({ type: 'invalid_request_error', param })
    expect(api.calls).toEqual([])
  })
})

describe('an embedding request', () => {
  const embed = (fields: object) => createTestApi().post('/v1/embeddings', { model: 'demo', input: 'Hi', ...fields })

  it('gives numbers, or the bytes of little-endian f32', async () => {
    const numbers = await (await embed({ input: ['a', 'b'] })).json()
    const vector = [...Float32Array.of(0.6, -0.8)]
    expect(numbers).toEqual({
      object: 'list',
      model: 'demo',
      data: [0, 1].map((index) => ({ object: 'embedding', index, embedding: vector })),
      usage: { prompt_tokens: 6, total_tokens: 6 },
    })
    const base64 = (await (await embed({ encoding_format: 'base64' })).json()) as { data: { embedding: string }[] }
    const bytes = Buffer.from(base64.data[0]?.embedding ?? '', 'base64')
    expect([bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual(vector)
  })

  it.each<[string, object, string]>([
    ['an empty text', { input: '' }, 'input'],
    ['no text', { input: [] }, 'input'],
    ['too many', { input: Array(2_049).fill('a') }, 'input'],
    ['dimensions', { dimensions: 64 }, 'dimensions'],
    ['other encodings', { encoding_format: 'hex' }, 'encoding_format'],
    ['other fields', { prompt: 'x' }, 'prompt'],
  ])('refuses %s', async (_what, fields, param) => {
    const response = await embed(fields)
    expect(response.status).toBe(400)
    expect((await bodyOf(response)).error.param).toBe(param)
  })
})
