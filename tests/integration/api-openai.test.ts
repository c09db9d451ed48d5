import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ApiNode, startApiNode } from './api-helpers.ts'
import { createCleanup, eventually } from './p2p-helpers.ts'

/** The official SDK, unchanged, against a node that has the ends and another that has all layers. */
const cleanup = createCleanup()
let hop: ApiNode
let entry: ApiNode
let client: OpenAI

const model = 'demo-qwen3'
const messages = [{ role: 'user' as const, content: 'Where does the fox live?' }]
const story = [{ role: 'user' as const, content: 'Tell me a long story about a bear.' }]

beforeAll(async () => {
  hop = await startApiNode(cleanup, { ends: true })
  entry = await startApiNode(cleanup, { layers: 'none', bootstrap: hop.listening })
  await entry.node.waitForCoverage(model, { signal: AbortSignal.timeout(20_000), onNotice: () => {} })
  client = new OpenAI({ baseURL: `${entry.url}/v1`, apiKey: 'none needed', maxRetries: 0 })
}, 60_000)
afterAll(() => cleanup.run())

describe('the openai SDK', () => {
  it('lists models and finds one', async () => {
    const listed = await client.models.list()
    expect(listed.data.map(({ id, object, owned_by }) => ({ id, object, owned_by }))).toEqual([
      { id: model, object: 'model', owned_by: 'llm-node' },
    ])
    expect((await client.models.retrieve(`${model}@swarm`)).id).toBe(`${model}@swarm`)
    await expect(client.models.retrieve('nothing')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  })

  it('chats: the same text streamed, whole, and alone on the node with all layers', async () => {
    const request = { model, messages, seed: 11, max_tokens: 24, temperature: 0.9 }
    const whole = await client.chat.completions.create(request)
    expect(whole).toMatchObject({ object: 'chat.completion', model })
    expect(whole.id).toMatch(/^chatcmpl-[0-9a-f]{24}$/)
    expect(whole._request_id).toMatch(/^req_/)
    const [choice] = whole.choices
    expect(choice?.message.content).toMatch(/\w/)
    expect(whole.usage?.total_tokens).toBe((whole.usage?.prompt_tokens ?? 0) + (whole.usage?.completion_tokens ?? 0))
    expect(whole).toMatchObject({
      llm_node: { exact: true, failovers: 0, hops: [{ layers: '0-11', address: hop.node.address }] },
    })

    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks: OpenAI.ChatCompletionChunk[] = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '', refusal: null })
    const [last, usage] = chunks.slice(-2)
    expect(last?.choices[0]).toMatchObject({ delta: {}, finish_reason: choice?.finish_reason })
    expect(usage).toMatchObject({ choices: [], usage: { total_tokens: whole.usage?.total_tokens } })
    // The circuit of the first answer was kept for the next one.
    expect(usage?.usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(0)
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(choice?.message.content)

    const alone = new OpenAI({ baseURL: `${hop.url}/v1`, apiKey: 'x' })
    const local = await alone.chat.completions.create({ ...request, model: `${model}@local` })
    expect(local.choices[0]?.message.content).toBe(choice?.message.content)
    expect(local).toMatchObject({ llm_node: { hops: [{ layers: '0-11', address: null }] } })
  })

  it('gives logprobs: the same tokens with and without a stream', async () => {
    const request = { model, messages, seed: 1, max_tokens: 6, logprobs: true, top_logprobs: 3, temperature: 0 }
    const whole = await client.chat.completions.create(request)
    const content = whole.choices[0]?.logprobs?.content ?? []
    expect(content).toHaveLength(whole.usage?.completion_tokens ?? 0)
    expect(content.map(({ token }) => token).join('')).toBe(whole.choices[0]?.message.content)
    for (const item of content) {
      expect(item.top_logprobs).toHaveLength(3)
      // Greedy: the chosen one is the best one.
      expect(item.top_logprobs[0]).toMatchObject({ token: item.token, logprob: item.logprob })
      expect(Buffer.from(item.bytes ?? []).toString()).toBe(item.token)
      expect(item.top_logprobs.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeLessThanOrEqual(1 + 1e-9)
    }
    const streamed: unknown[] = []
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []))
    }
    expect(streamed).toEqual(content)
  })

  it('continues raw text and token ids', async () => {
    const request = { model, prompt: 'The fox', seed: 3, max_tokens: 5, logprobs: 2 }
    const whole = await client.completions.create(request)
    const [choice] = whole.choices
    expect(whole.object).toBe('text_completion')
    expect(choice?.logprobs?.tokens).toHaveLength(whole.usage?.completion_tokens ?? 0)
    expect(choice?.logprobs?.text_offset?.[0]).toBe(0)
    let text = ''
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      text += chunk.choices[0]?.text ?? ''
    }
    expect(text).toBe(choice?.text)
    const echoed = await client.completions.create({ model, prompt: 'The fox', seed: 3, max_tokens: 5, echo: true })
    expect(echoed.choices[0]?.text).toBe(`The fox${text}`)
    const ids = await client.completions.create({ model, prompt: [1, 2, 3], seed: 3, max_tokens: 2 })
    expect(ids.usage?.prompt_tokens).toBe(3)
  })

  it('embeds: unit vectors, nearer for what is nearer, the same in both encodings', async () => {
    const input = ['A fox lives in the forest.', 'The fox lives in a forest.', 'Two plus two is four.']
    const { data, usage } = await client.embeddings.create({ model, input })
    const [a = [], b = [], c = []] = data.map(({ embedding }) => embedding)
    const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * (y[i] ?? 0), 0)
    expect(dot(a, a)).toBeCloseTo(1, 5)
    expect(dot(a, b)).toBeGreaterThan(dot(a, c))
    expect(usage.total_tokens).toBeGreaterThan(15)
    const numbers = await client.embeddings.create({ model, input: input[0] ?? '', encoding_format: 'float' })
    // The SDK asks for base64 by itself and decodes it.
    expect(numbers.data[0]?.embedding).toEqual(a)
    const local = new OpenAI({ baseURL: `${hop.url}/v1`, apiKey: 'x' })
    const same = await local.embeddings.create({ model: `${model}@local`, input: input[0] ?? '' })
    expect(same.data[0]?.embedding).toEqual(a)
  })

  it('raises its own errors with the field', async () => {
    const refused = (extra: object) => client.chat.completions.create({ model, messages, ...extra } as never)
    await expect(refused({ n: 2 })).rejects.toBeInstanceOf(OpenAI.BadRequestError)
    await expect(refused({ tools: [{ type: 'function' }] })).rejects.toMatchObject({ status: 400, param: 'tools' })
    await expect(refused({ model: 'gpt-4o' })).rejects.toBeInstanceOf(OpenAI.NotFoundError)
    await expect(refused({ max_tokens: 4000 })).rejects.toMatchObject({ status: 413, code: 'context_length_exceeded' })
    await expect(refused({ model: `${model}@local` })).rejects.toMatchObject({ status: 503 })
  })

  it('frees every hop within a second after an abort, streaming or not', async () => {
    // Finished answers may leave small ones for a next turn.
    const large = () => hop.node.control.sessions().filter(({ maxContext }) => maxContext > 1_000)
    expect(large()).toEqual([])
    const stream = await client.chat.completions.create({
      model,
      messages: story,
      max_tokens: 1_900,
      stream: true,
      temperature: 1.5,
      top_p: 1,
    })
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
    await eventually(() => large().length === 0, 1_000)

    const stop = new AbortController()
    const whole = client.chat.completions.create(
      { model, messages: story, max_tokens: 1_900, temperature: 1.5, top_p: 1 },
      { signal: stop.signal },
    )
    await eventually(() => large().some(({ steps }) => steps > 2), 5_000)
    stop.abort()
    await expect(whole).rejects.toBeInstanceOf(OpenAI.APIUserAbortError)
    await eventually(() => large().length === 0, 1_000)
    const last = () => entry.node.control.generations().slice(0, 2)
    await eventually(() => last().every(({ state }) => state === 'stopped'), 1_000)
  })
})

describe('two hops', () => {
  it('are both free within a second after the client has gone', async () => {
    const low = await startApiNode(cleanup, { layers: '0-5', ends: false })
    const high = await startApiNode(cleanup, { layers: '6-11', ends: false, bootstrap: low.listening })
    const asker = await startApiNode(cleanup, { layers: 'none', bootstrap: [...low.listening, ...high.listening] })
    await asker.node.waitForCoverage(model, { signal: AbortSignal.timeout(20_000), onNotice: () => {} })
    const stop = new AbortController()
    const response = await fetch(`${asker.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: 'The fox', max_tokens: 1_900, ignore_eos: true, stream: true }),
      signal: stop.signal,
    })
    await (response.body as ReadableStream<Uint8Array>).getReader().read()
    const held = () => [low, high].map(({ node }) => node.control.sessions().length)
    expect(held()).toEqual([1, 1])
    stop.abort()
    await eventually(() => held().every((count) => count === 0), 1_000)
  })
})

describe('memory for one session', () => {
  it('refuses the second with 429 and Retry-After; the SDK retries it into an answer', async () => {
    // 1 MiB of KV holds 170 positions of 12 layers × 2 × 2 heads × 32 values.
    const small = await startApiNode(cleanup, { kvMiB: 1 })
    const options = { baseURL: `${small.url}/v1`, apiKey: 'x' }
    const impatient = new OpenAI({ ...options, maxRetries: 0 })
    const first = await impatient.chat.completions.create({ model, messages: story, max_tokens: 120, stream: true })
    const reader = first[Symbol.asyncIterator]()
    await reader.next()
    const request = { model, messages, max_tokens: 100 }
    const refused = await impatient.chat.completions.create(request).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(OpenAI.RateLimitError)
    expect((refused as InstanceType<typeof OpenAI.RateLimitError>).headers?.get('retry-after')).toBe('2')
    const patient = new OpenAI({ ...options, maxRetries: 3 })
    const waiting = patient.chat.completions.create(request)
    first.controller.abort()
    expect((await waiting).choices[0]?.message.content).toMatch(/\w/)
  })
})
