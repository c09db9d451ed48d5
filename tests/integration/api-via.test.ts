import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ApiNode, startApiNode } from './api-helpers.ts'
import { createCleanup } from './p2p-helpers.ts'

/** A node without any weights of its own asks another one, by its address, through the API. */
const cleanup = createCleanup()
let answerer: ApiNode
let client: OpenAI

const messages = [{ role: 'user' as const, content: 'Where does the fox live?' }]
const request = { messages, seed: 5, temperature: 0.9, max_tokens: 20 }

beforeAll(async () => {
  answerer = await startApiNode(cleanup, { answers: { strangers: true, perMinute: 60 } })
  const asker = await startApiNode(cleanup, { layers: 'none', bootstrap: answerer.listening })
  client = new OpenAI({ baseURL: `${asker.url}/v1`, apiKey: 'x', maxRetries: 0 })
}, 60_000)
afterAll(() => cleanup.run())

describe('MODEL@ADDRESS.llm', () => {
  it('is answered by that node: the same text, streamed or whole, as there', async () => {
    const there = new OpenAI({ baseURL: `${answerer.url}/v1`, apiKey: 'x' })
    const expected = await there.chat.completions.create({ ...request, model: 'demo-qwen3@local' })
    const model = `demo-qwen3@${answerer.node.address}`
    const direct = { llm_node: { profile: 'direct' } }
    const whole = await client.chat.completions.create({ ...request, ...direct, model } as never)
    expect(whole).toMatchObject({ model, choices: [{ message: { content: expected.choices[0]?.message.content } }] })
    expect(whole.usage?.completion_tokens).toBe(expected.usage?.completion_tokens)
    const stream = await client.chat.completions.create({ ...request, ...direct, model, stream: true } as never)
    let text = ''
    for await (const chunk of stream as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>) {
      text += chunk.choices[0]?.delta.content ?? ''
    }
    expect(text).toBe(expected.choices[0]?.message.content)
  })

  it('says what the other node cannot be asked for', async () => {
    const model = `demo-qwen3@${answerer.node.address}`
    const refused = client.chat.completions.create({ ...request, model, logprobs: true })
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'logprobs' })
  })
})
