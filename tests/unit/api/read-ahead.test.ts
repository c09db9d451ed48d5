import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { readAhead } from '../../../src/api/openai/read-ahead.ts'

function start(lines: readonly string[], { most = 2, failAt = -1 } = {}) {
  const told = { made: 0, ended: false }
  async function* source() {
    try {
      for (const [index, line] of lines.entries()) {
        if (index === failAt) throw new Error('broken')
        told.made++
        yield line
      }
    } finally {
      told.ended = true
    }
  }
  return { told, ahead: readAhead(source(), most) }
}

describe('reading ahead', () => {
  it('goes so far and no further, and hands over together what has waited', async () => {
    const { told, ahead } = start(['a', 'b', 'c', 'd', 'e'])
    expect((await ahead.next()).value).toBe('a')
    await turn()
    expect(told.made).toBe(3)
    expect((await ahead.next()).value).toBe('bc')
    await turn()
    expect((await ahead.next()).value).toBe('de')
    expect((await ahead.next()).done).toBe(true)
    expect(told).toEqual({ made: 5, ended: true })
  })

  it('hands over the first at once, and what comes soon after it together', async () => {
    async function* source() {
      for (const line of ['a', 'b', 'c']) {
        yield line
        await turn()
      }
      await delay(100)
      yield 'd'
    }
    const ahead = readAhead(source(), 32)
    const texts: (string | undefined)[] = []
    for (let i = 0; i < 3; i++) texts.push((await ahead.next()).value ?? undefined)
    expect(texts).toEqual(['a', 'bc', 'd'])
    expect((await ahead.next()).done).toBe(true)
  })

  it('ends the source when nobody reads any more', async () => {
    const { told, ahead } = start(['a', 'b', 'c', 'd', 'e'])
    await ahead.next()
    await turn()
    await ahead.return(undefined)
    expect(told).toEqual({ made: 3, ended: true })
  })

  it('tells a failure after the lines before it', async () => {
    const { told, ahead } = start(['a', 'b', 'c'], { failAt: 2 })
    expect((await ahead.next()).value).toBe('a')
    await turn()
    expect((await ahead.next()).value).toBe('b')
    await expect(ahead.next()).rejects.toThrow('broken')
    expect(told.ended).toBe(true)
  })
})
