import { describe, expect, it } from 'vitest'
import { createHopServer } from '../../../src/pipeline/hop-server.ts'
import type { KvSession, SpanRunner } from '../../../src/shard/runner.ts'

const modelId = new Uint8Array(32).fill(7)
const numericsClass = new Uint8Array(32).fill(2)
const span = { start: 0, end: 4 }

/** Memory for so many positions; nothing is computed. */
function createServer(tokens: number) {
  let free = tokens
  const runner = {
    span,
    spec: { hiddenSize: 8, maxContext: 100_000 },
    get freeKvTokens() {
      return free
    },
    openSession: ({ maxContext }: { maxContext: number }) => {
      free -= maxContext
      return { span, maxContext, length: 0, close: () => (free += maxContext) } as unknown as KvSession
    },
  } as unknown as SpanRunner
  const hops = createHopServer()
  hops.serve({ modelId, numericsClass, runner })
  const open = (predecessor: string, maxContext: number) =>
    hops.open({ modelId, span, maxContext, longRope: false, predecessor })
  return { hops, open }
}

describe('memory for sessions', () => {
  it('goes to whoever asks while there is plenty', () => {
    const { open } = createServer(1_000)
    for (let i = 0; i < 8; i++) expect(open('one', 100).maxContext).toBe(100)
  })

  it('when it is short, no neighbour gets more than half; the others still do', () => {
    const { open } = createServer(1_000)
    const held = Array.from({ length: 5 }, () => open('one', 100))
    open('two', 270)
    // 230 of 1,000 are free, and the first one has half of all.
    expect(() => open('one', 1)).toThrow(expect.objectContaining({ code: 'KV_FULL' }))
    expect(() => open('one', 1_000)).toThrow(expect.objectContaining({ code: 'KV_FULL' }))
    expect(open('two', 100).maxContext).toBe(100)
    expect(open('three', 100).maxContext).toBe(100)
    held[0]?.close()
    held[1]?.close()
    expect(open('one', 100).maxContext).toBe(100)
    expect(() => open('one', 201)).toThrow(expect.objectContaining({ code: 'KV_FULL' }))
  })
})
