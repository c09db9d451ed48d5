import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { nodeEvent } from '../../src/api/event-schema.ts'
import { type ApiNode, adminToken, startApiNode } from './api-helpers.ts'
import { createCleanup } from './p2p-helpers.ts'

const cleanup = createCleanup()
let entry: ApiNode

beforeAll(async () => {
  entry = await startApiNode(cleanup, { layers: '0-5' })
}, 30_000)
afterAll(() => cleanup.run())

interface Received {
  readonly id: number
  readonly type: string
  readonly data: Record<string, unknown>
}

/** An event stream of a node: `until` reads on until an event fits. */
async function watch(lastId?: number) {
  const stop = new AbortController()
  const resume = lastId === undefined ? {} : { 'last-event-id': String(lastId) }
  const response = await fetch(`${entry.url}/api/events`, {
    headers: { authorization: `Bearer ${adminToken}`, ...resume },
    signal: stop.signal,
  })
  expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
  const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  const seen: Received[] = []
  const next = async (): Promise<Received> => {
    for (;;) {
      const end = rest.indexOf('\n\n')
      if (end < 0) {
        const { value, done } = await reader.read()
        if (done) throw new Error('the stream has ended')
        rest += value
        continue
      }
      const block = rest.slice(0, end)
      rest = rest.slice(end + 2)
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1]
      const data = field('data')
      if (data === undefined) continue
      const event = { id: Number(field('id')), type: field('event') ?? '', data: JSON.parse(data) }
      seen.push(event)
      return event
    }
  }
  return {
    seen,
    next,
    async until(fits: (event: Received) => boolean): Promise<Received> {
      for (;;) {
        const event = await next()
        if (fits(event)) return event
      }
    },
    stop: () => stop.abort(),
  }
}

describe('/api/events', () => {
  it('tells of a peer that comes and its layers within two seconds, of answers, and of its leaving', async () => {
    const events = await watch()
    expect(await events.next()).toMatchObject({ type: 'hello', data: { resumed: false } })
    const other = await startApiNode(cleanup, { layers: '6-11', ends: false, bootstrap: entry.listening })
    const startMs = performance.now()
    const complete = await events.until(({ type, data }) => type === 'coverage' && data.complete === true)
    expect(performance.now() - startMs).toBeLessThan(2_000)
    expect(complete.data).toMatchObject({ name: 'demo-qwen3', replicas: Array(12).fill(1), gaps: [] })
    expect(events.seen.some(({ type, data }) => type === 'peer' && data.address === other.node.address)).toBe(true)

    const answer = await fetch(`${entry.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo-qwen3', prompt: 'The fox', max_tokens: 4 }),
    })
    expect(answer.status).toBe(200)
    const done = await events.until(({ type, data }) => type === 'generation' && data.state === 'done')
    const states = events.seen.filter(({ type }) => type === 'generation').map(({ data }) => data.state)
    expect(states.slice(0, 2)).toEqual(['starting', 'running'])
    expect(done.data).toMatchObject({
      model: 'demo-qwen3',
      hops: [
        { span: { start: 0, end: 6 }, address: null },
        { span: { start: 6, end: 12 }, address: other.node.address },
      ],
    })
    expect(JSON.stringify(done.data)).not.toMatch(/fox/i)

    await other.node.stop()
    await events.until(({ type, data }) => type === 'peer-left' && data.address === other.node.address)
    await events.until(({ type, data }) => type === 'coverage' && data.complete === false)

    for (const { type, data } of events.seen.filter((event) => event.type !== 'hello')) nodeEvent.parse({ type, data })
    const ids = events.seen.map(({ id }) => id)
    expect(ids).toEqual([...ids].sort((a, b) => a - b))
    events.stop()

    const resumed = await watch(complete.id)
    expect(await resumed.next()).toMatchObject({ type: 'hello', data: { resumed: true } })
    await resumed.until(({ type, data }) => type === 'coverage' && data.complete === false)
    const missed = events.seen.filter(({ id }) => id > complete.id)
    expect(resumed.seen.slice(1, 1 + missed.length)).toEqual(missed)
    resumed.stop()
  })
})
