import { describe, expect, it } from 'vitest'
import { createEventLog } from '../../../src/api/event-log.ts'
import type { NodeEvent } from '../../../src/api/event-schema.ts'
import { createEventStreams } from '../../../src/api/event-stream.ts'

const left = (address: string): NodeEvent => ({ type: 'peer-left', data: { address } })
const limits = { eventStreams: 2, eventsWaiting: 3, keepAliveMs: 20 }

function start(kept = { events: 4, eventBytes: 10_000 }) {
  const log = createEventLog({ startedMs: 1_000 }, kept)
  const streams = createEventStreams(log, limits)
  const open = (lastId?: number) => {
    const headers = lastId === undefined ? {} : { 'last-event-id': String(lastId) }
    const request = new Request('http://localhost/api/events', { headers })
    const c = { req: { header: (name: string) => request.headers.get(name) ?? undefined } }
    const response = streams.open(c as never)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    const decoder = new TextDecoder()
    return {
      next: async () => decoder.decode((await reader.read()).value),
      cancel: () => reader.cancel(),
    }
  }
  return { log, open }
}

describe('the log of events', () => {
  it('numbers them from the time of the start, so that ids also increase over restarts', () => {
    const { log } = start()
    log.publish(left('a'))
    expect(log.lastId).toBe(1_000_001)
    expect(createEventLog({ startedMs: 1_001 }).lastId).toBeGreaterThan(log.lastId)
  })

  it('keeps so many, and so many bytes', () => {
    const { log } = start()
    for (const name of ['a', 'b', 'c', 'd', 'e']) log.publish(left(name))
    expect(log.since(1_000_001)?.map(({ id }) => id)).toEqual([1_000_002, 1_000_003, 1_000_004, 1_000_005])
    expect(log.since(1_000_000)).toBeUndefined()
    expect(log.since(1_000_006)).toBeUndefined()
    expect(log.since(1_000_005)).toEqual([])
    log.publish(left('x'.repeat(20_000)))
    expect(log.since(1_000_004)).toBeUndefined()
    expect(log.since(1_000_005)).toHaveLength(1)
  })
})

describe('a stream of events', () => {
  it('begins with hello, then tells what happens, and keeps alive', async () => {
    const { log, open } = start()
    log.publish(left('before'))
    const stream = open()
    expect(await stream.next()).toBe(
      'retry: 1000\nid: 1000001\nevent: hello\ndata: {"resumed":false,"lastId":1000001}\n\n',
    )
    expect(await stream.next()).toBe(': keep-alive\n\n')
    const waiting = stream.next()
    log.publish(left('a'))
    expect(await waiting).toBe('id: 1000002\nevent: peer-left\ndata: {"address":"a"}\n\n')
    await stream.cancel()
  })

  it('resumes after the last id without a loss, or says that it cannot', async () => {
    const { log, open } = start()
    for (const name of ['a', 'b', 'c']) log.publish(left(name))
    const resumed = open(1_000_001)
    expect(await resumed.next()).toContain('{"resumed":true,"lastId":1000003}')
    log.publish(left('d'))
    const texts = [await resumed.next(), await resumed.next(), await resumed.next()]
    expect(texts.map((text) => /"address":"(\w)"/.exec(text)?.[1])).toEqual(['b', 'c', 'd'])
    await resumed.cancel()
    for (const name of ['e', 'f', 'g', 'h']) log.publish(left(name))
    const late = open(1_000_001)
    expect(await late.next()).toContain('"resumed":false')
    await late.cancel()
  })

  it('cuts off a reader that falls behind, which makes room for another', async () => {
    const { log, open } = start()
    const stream = open()
    open()
    await stream.next()
    for (const name of ['a', 'b', 'c', 'd', 'e']) log.publish(left(name))
    expect(await stream.next()).toBe('')
    open()
  })

  it('has a limited number of readers', async () => {
    const { open } = start()
    const [one] = [open(), open()]
    expect(() => open()).toThrow(/Too many/)
    await one.cancel()
    open()
  })
})
