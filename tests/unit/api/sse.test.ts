import { describe, expect, it } from 'vitest'
import { eventStream } from '../../../src/api/openai/sse.ts'

function start(lines: readonly string[], unreadMs = 1_000) {
  const told = { stops: 0, made: 0, ended: false }
  async function* source() {
    try {
      for (const line of lines) {
        told.made++
        yield line
      }
    } finally {
      told.ended = true
    }
  }
  const response = eventStream(source(), { stop: () => told.stops++, unreadMs })
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  return { told, reader }
}

describe('an event stream', () => {
  it('makes a line only when one is wanted', async () => {
    const { told, reader } = start(['a', 'b', 'c'])
    expect(told.made).toBe(0)
    await reader.read()
    expect(told.made).toBe(1)
    await reader.cancel()
    expect(told).toEqual({ stops: 1, made: 1, ended: true })
  })

  it('stops at its end', async () => {
    const { told, reader } = start(['a'])
    expect(new TextDecoder().decode((await reader.read()).value)).toBe('a')
    expect((await reader.read()).done).toBe(true)
    expect(told).toMatchObject({ stops: 1, ended: true })
  })

  it('gives up a reader that takes nothing', async () => {
    const { told, reader } = start(['a', 'b'], 20)
    await reader.read()
    await expect(reader.closed).rejects.toThrow(/not being read/)
    expect(told).toEqual({ stops: 1, made: 1, ended: true })
  })
})
