import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embedMany, generateText, streamText } from 'ai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ApiNode, startApiNode } from './api-helpers.ts'
import { createCleanup, eventually } from './p2p-helpers.ts'

/** The Vercel AI SDK with its provider for OpenAI-compatible servers, unchanged, against a real node. */
const cleanup = createCleanup()
let node: ApiNode
let provider: ReturnType<typeof createOpenAICompatible>

const name = 'demo-qwen3'
const prompt = 'Where does the fox live?'
const sampling = { seed: 7, temperature: 0.8, maxOutputTokens: 24, maxRetries: 0 }

beforeAll(async () => {
  node = await startApiNode(cleanup)
  provider = createOpenAICompatible({ name: 'llm-node', baseURL: `${node.url}/v1`, includeUsage: true })
}, 60_000)
afterAll(() => cleanup.run())

describe('the Vercel AI SDK', () => {
  it('generates and streams the same text, with usage and the reason of the end', async () => {
    const model = provider(name)
    const whole = await generateText({ model, prompt, ...sampling })
    expect(whole.text).toMatch(/\w/)
    expect(['stop', 'length']).toContain(whole.finishReason)
    expect(whole.usage.outputTokens).toBeGreaterThan(0)
    expect(whole.response.modelId).toBe(name)
    const streamed = streamText({ model, prompt, ...sampling })
    let text = ''
    for await (const delta of streamed.textStream) text += delta
    expect(text).toBe(whole.text)
    expect(await streamed.finishReason).toBe(whole.finishReason)
    expect(await streamed.usage).toMatchObject({
      inputTokens: whole.usage.inputTokens,
      outputTokens: whole.usage.outputTokens,
    })
  })

  it('carries on a chat', async () => {
    const first = await generateText({ model: provider(name), prompt, ...sampling })
    const messages = [
      { role: 'user' as const, content: prompt },
      { role: 'assistant' as const, content: first.text },
      { role: 'user' as const, content: 'And the bear?' },
    ]
    const second = await generateText({ model: provider(name), messages, ...sampling })
    expect(second.text).toMatch(/\w/)
    expect(second.usage.inputTokens).toBeGreaterThan(first.usage.inputTokens ?? 0)
  })

  it('stops when it is told to, which frees the node', async () => {
    const stopping = new AbortController()
    const streamed = streamText({
      model: provider(name),
      prompt: 'Tell me a long story about a bear.',
      ...sampling,
      maxOutputTokens: 1_900,
      abortSignal: stopping.signal,
      onError: () => {},
    })
    for await (const delta of streamed.textStream) {
      if (delta !== '') stopping.abort()
    }
    await eventually(() => node.node.control.generations()[0]?.state === 'stopped', 1_000)
  })

  it('embeds', async () => {
    const values = ['A fox lives in the forest.', 'Two plus two is four.']
    const { embeddings, usage } = await embedMany({ model: provider.embeddingModel(name), values, maxRetries: 0 })
    expect(embeddings.map(({ length }) => length)).toEqual([128, 128])
    expect(usage.tokens).toBeGreaterThan(10)
  })

  it('raises the errors of the API', async () => {
    const failed = generateText({ model: provider('gpt-4o'), prompt, maxRetries: 0 })
    await expect(failed).rejects.toBeInstanceOf(APICallError)
    await expect(failed).rejects.toMatchObject({ statusCode: 404, isRetryable: false })
  })
})
