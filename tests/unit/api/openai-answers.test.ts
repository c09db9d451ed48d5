import { describe, expect, it } from 'vitest'
import { chatChunk, chatCompletion } from '../../../src/api/openai/chat-schema.ts'
import { textCompletion } from '../../../src/api/openai/completion-schema.ts'
import { modelList, modelObject, openAiError } from '../../../src/api/openai/model-schema.ts'
import { type ErrorCode, LlmNodeError } from '../../../src/base/errors.ts'
import type { AskProgress } from '../../../src/pipeline/ask.ts'
import { answer, card, createTestApi, readEvents, result } from './app-helpers.ts'

const head = { model: 'demo', system_fingerprint: 'fp_abababab_i8.1_cdcdcdcd' }
const llm_node = {
  hops: [{ layers: '0-11', address: 'x.llm', ms: 1.5, link_ms: 1, reason: 'fastest of 2' }],
  exact: true,
  changed_at: null,
  seen_by: 1,
  audit: null,
  estimate: { solo: null, split: null },
  failovers: 1,
  profile: 'direct',
}
const usage = {
  prompt_tokens: 7,
  completion_tokens: 2,
  total_tokens: 9,
  prompt_tokens_details: { cached_tokens: 3 },
}
const tokens = [
  { id: 5, text: 'Hello', bytes: [72], logprob: -0.5, offset: 0, top: [] },
  {
    id: 6,
    text: ' there',
    bytes: [32],
    logprob: -1,
    offset: 5,
    top: [{ id: 7, text: '!', bytes: [33], logprob: -0.25 }],
  },
]
const withLogprobs: AskProgress[] = answer.map((event, i) =>
  event.type === 'text' ? { ...event, tokens: tokens.slice(i - 1, i) } : event,
)
const thinking: AskProgress[] = [
  { ...(answer[0] as Extract<AskProgress, { type: 'route' }>), thinking: 'possible' },
  { type: 'text', text: '<think>\nHm' },
  { type: 'text', text: '.\n</think>\n\nYes' },
  { type: 'done', result },
]

const interrupted = { text: 'Hello', tokens: [5], resume: 'gen-1' }
/** An answer that ends with an error after its first token. */
const brokenOff = {
  events: [...answer.slice(0, 2), { type: 'interrupted' as const, ...interrupted }, ...answer.slice(2)],
  fail: { at: 3, error: new LlmNodeError('COVERAGE_GAP', 'Layers 4-7 are gone.', { hint: 'Wait.' }) },
}

describe('a whole answer', () => {
  it('has the shape of OpenAI', async () => {
    const body = await (await createTestApi().chat()).json()
    expect(chatCompletion.parse(body)).toEqual(body)
    expect(body).toMatchObject({
      ...head,
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hello there', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage,
      llm_node,
    })
  })

  it('has logprobs only when they are wished', async () => {
    const api = createTestApi({ events: withLogprobs })
    const body = chatCompletion.parse(await (await api.chat({ logprobs: true, top_logprobs: 1 })).json())
    expect(body.choices[0]?.logprobs).toEqual({
      content: [
        { token: 'Hello', logprob: -0.5, bytes: [72], top_logprobs: [] },
        { token: ' there', logprob: -1, bytes: [32], top_logprobs: [{ token: '!', logprob: -0.25, bytes: [33] }] },
      ],
      refusal: null,
    })
  })

  it('keeps thinking apart', async () => {
    const body = chatCompletion.parse(await (await createTestApi({ events: thinking }).chat()).json())
    expect(body.choices[0]?.message).toMatchObject({ content: 'Yes', reasoning_content: 'Hm.' })
  })

  it.each([
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }] }],
    ['/v1/completions', { prompt: 'Hi' }],
  ])('that breaks off leaves what had come of it with the error: %s', async (path, body) => {
    const api = createTestApi(brokenOff)
    const response = await api.post(path, { model: 'demo', ...body })
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('10')
    const { error } = openAiError.parse(await response.json())
    expect(error).toMatchObject({ code: 'coverage_gap', message: 'Layers 4-7 are gone. Wait.' })
    expect(error.llm_node).toEqual({ code: 'COVERAGE_GAP', hint: 'Wait.', interrupted })
    expect(api.open()).toBe(0)
  })

  it('of a completion has the older shape, with the drawn token among the best', async () => {
    const api = createTestApi({ events: withLogprobs })
    const body = await (
      await api.post('/v1/completions', { model: 'demo', prompt: 'Hi', logprobs: 1, echo: false })
    ).json()
    expect(textCompletion.parse(body)).toEqual(body)
    expect(body).toMatchObject({
      ...head,
      object: 'text_completion',
      choices: [
        {
          text: 'Hello there',
          finish_reason: 'stop',
          logprobs: {
            tokens: ['Hello', ' there'],
            token_logprobs: [-0.5, -1],
            top_logprobs: [{ Hello: -0.5 }, { ' there': -1, '!': -0.25 }],
            text_offset: [0, 5],
          },
        },
      ],
      usage,
      llm_node,
    })
  })
})

describe('a stream', () => {
  it('is the role, the text, an empty delta with the reason, and [DONE]', async () => {
    const response = await createTestApi().chat({ stream: true })
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const events = await readEvents(response)
    expect(events.pop()).toBe('[DONE]')
    const chunks = events.map((event) => chatChunk.parse(event))
    expect(chunks).toEqual(events)
    expect(chunks.map((chunk) => chunk.choices[0])).toEqual(
      [
        { delta: { role: 'assistant', content: '', refusal: null } },
        { delta: { content: 'Hello' } },
        { delta: { content: ' there' } },
        { delta: {}, finish_reason: 'stop' },
      ].map((choice) => ({ index: 0, logprobs: null, finish_reason: null, ...choice })),
    )
    expect(chunks.at(-1)?.llm_node).toEqual(llm_node)
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false)
    expect(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size).toBe(1)
  })

  it('has a usage chunk when it is wished, and null before', async () => {
    const events = await readEvents(
      await createTestApi().chat({ stream: true, stream_options: { include_usage: true } }),
    )
    const chunks = events.slice(0, -1).map((event) => chatChunk.parse(event))
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage })
    expect(chunks.slice(0, -1).map((chunk) => chunk.usage)).toEqual(Array(4).fill(null))
  })

  it('brings the logprobs with the text', async () => {
    const api = createTestApi({ events: withLogprobs })
    const events = await readEvents(await api.chat({ stream: true, logprobs: true, top_logprobs: 1 }))
    const logprobs = events.slice(0, -1).map((event) => chatChunk.parse(event).choices[0]?.logprobs?.content)
    expect(logprobs.map((content) => content?.map(({ token }) => token))).toEqual([
      undefined,
      ['Hello'],
      [' there'],
      undefined,
    ])
  })

  it('tells thinking in a field of its own', async () => {
    const events = await readEvents(await createTestApi({ events: thinking }).chat({ stream: true }))
    const deltas = events.slice(1, -2).map((event) => chatChunk.parse(event).choices[0]?.delta)
    expect(deltas).toEqual([{ reasoning_content: 'Hm' }, { reasoning_content: '.' }, { content: 'Yes' }])
  })

  it('of a completion', async () => {
    const api = createTestApi()
    const fields = { model: 'demo', prompt: 'Hi', echo: true, stream: true, stream_options: { include_usage: true } }
    const events = await readEvents(await api.post('/v1/completions', fields))
    expect(events.pop()).toBe('[DONE]')
    const chunks = events.map((event) => textCompletion.parse(event))
    expect(chunks.map(({ choices }) => [choices[0]?.text, choices[0]?.finish_reason])).toEqual([
      ['Hi', null],
      ['Hello', null],
      [' there', null],
      ['', 'stop'],
      [undefined, undefined],
    ])
    expect(chunks.at(-1)?.usage).toEqual(usage)
  })

  it('that breaks off ends with an error and without [DONE]', async () => {
    const error = new LlmNodeError('CIRCUIT_BROKEN', 'A hop has gone.', { hint: 'Ask again.' })
    const api = createTestApi({ fail: { at: 2, error } })
    const events = await readEvents(await api.chat({ stream: true }))
    expect(events).toHaveLength(3)
    expect(openAiError.parse(events.at(-1)).error).toEqual({
      message: 'A hop has gone. Ask again.',
      type: 'server_error',
      param: null,
      code: 'circuit_broken',
      llm_node: { code: 'CIRCUIT_BROKEN', hint: 'Ask again.' },
    })
    expect(api.open()).toBe(0)
  })

  it('that breaks off says under which name it goes on', async () => {
    const events = await readEvents(await createTestApi(brokenOff).chat({ stream: true }))
    expect(openAiError.parse(events.at(-1)).error.llm_node.interrupted).toEqual(interrupted)
  })

  it('that nobody reads to its end frees everything', async () => {
    for (const reads of [0, 1]) {
      const api = createTestApi({ maxUnderWay: 1 })
      const reader = ((await api.chat({ stream: true })).body as ReadableStream<Uint8Array>).getReader()
      for (let i = 0; i < reads; i++) await reader.read()
      expect(api.open()).toBe(1)
      expect((await api.chat()).status).toBe(429)
      await reader.cancel()
      expect(api.open()).toBe(0)
      expect((await api.chat()).status).toBe(200)
    }
  })
})

describe('a failure', () => {
  it.each<[ErrorCode, number, string, string | null, string | null]>([
    ['BAD_INPUT', 400, 'invalid_request_error', null, null],
    ['MODEL_NOT_FOUND', 404, 'invalid_request_error', 'model_not_found', null],
    ['CONTEXT_TOO_LONG', 413, 'invalid_request_error', 'context_length_exceeded', null],
    ['KV_FULL', 429, 'rate_limit_error', 'rate_limit_exceeded', '2'],
    ['LIMIT', 429, 'rate_limit_error', 'rate_limit_exceeded', '1'],
    ['COVERAGE_GAP', 503, 'server_error', 'coverage_gap', '10'],
    ['COVERAGE_FRAGMENTED', 503, 'server_error', 'coverage_fragmented', '10'],
    ['PEER_REFUSED', 503, 'server_error', 'peer_refused', '2'],
    ['CIRCUIT_BROKEN', 503, 'server_error', 'circuit_broken', '1'],
    ['HOP_TIMEOUT', 504, 'server_error', 'hop_timeout', null],
    ['ENGINE_FAILED', 500, 'server_error', 'engine_failed', null],
  ])('%s', async (code, status, type, openAiCode, retryAfter) => {
    for (const at of [0, 2]) {
      const error = new LlmNodeError(code, 'So it is.')
      const response = await createTestApi({ fail: { at, error } }).chat()
      expect(response.status).toBe(status)
      expect(response.headers.get('retry-after')).toBe(retryAfter)
      expect(response.headers.get('x-request-id')).toMatch(/^req_/)
      const body = openAiError.parse(await response.json())
      expect(body.error).toMatchObject({ message: 'So it is.', type, code: openAiCode, llm_node: { code } })
    }
  })

  it('of a hop that is full is 429', async () => {
    const error = new LlmNodeError('PEER_REFUSED', 'Full.', { meta: { status: 'KV_FULL' } })
    expect((await createTestApi({ fail: { at: 0, error } }).chat()).status).toBe(429)
  })

  it('of ours tells nothing of itself', async () => {
    const response = await createTestApi({ fail: { at: 0, error: new TypeError('secret path /x') } }).chat()
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('secret')
  })
})

describe('models', () => {
  it('are listed and found', async () => {
    const api = createTestApi()
    const list = modelList.parse(await (await api.request('/v1/models')).json())
    expect(list.data).toHaveLength(1)
    const one = modelObject.parse(await (await api.request('/v1/models/demo')).json())
    expect(one).toEqual(list.data[0])
    expect(one).toMatchObject({ id: 'demo', created: card.created, owned_by: 'llm-node', llm_node: { context: 2048 } })
    expect((await api.request('/v1/models/other')).status).toBe(404)
  })

  it('of a node without ends are none', async () => {
    const api = createTestApi({ models: [] })
    expect(await (await api.request('/v1/models')).json()).toEqual({ object: 'list', data: [] })
    expect(await (await api.chat()).json()).toMatchObject({ error: { message: expect.stringMatching(/setup/) } })
  })
})

describe('other paths', () => {
  it.each([
    ['GET', '/v1/chat/completions'],
    ['POST', '/v1/responses'],
    ['GET', '/v1'],
  ])('%s %s is nothing', async (method, path) => {
    const response = await createTestApi().request(path, { method })
    expect(response.status).toBe(404)
    openAiError.parse(await response.json())
  })

  it('have metrics', async () => {
    const api = createTestApi()
    await api.chat()
    const text = await (await api.request('/metrics')).text()
    expect(text).toMatch(/^llm_node_peers 3$/m)
    expect(text).toMatch(/^llm_node_tokens_total\{kind="completion"\} 2$/m)
    expect(text).toMatch(/^llm_node_http_requests_total\{route="\/v1\/chat\/completions",status="200"\} 1$/m)
  })
})
