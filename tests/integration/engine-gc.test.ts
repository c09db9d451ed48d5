/**
 * ONNX Runtime keeps raw pointers, which a garbage collection must never pull away. So: a collection before the first
 * use of the library, after every call, and between opening and closing of everything.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, expect, test } from 'vitest'
import { digestOf, openEngine, runChain, sampleRows } from '../helpers/engine.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
afterAll(() => setFlagsFromString('--no-expose-gc'))

test.each(['f32/1', 'i8/1', 'q4/1'] as const)('%s survives a collection after every call', async (recipe) => {
  collect()
  const engine = await openEngine('models/demo-qwen3', recipe, { threads: 2 })
  collect()
  const { nLayers, hiddenSize } = engine.model.spec
  const input = await engine.ends.embed(Array.from({ length: 280 }, (_, i) => i))
  const span = { start: 0, end: nLayers }
  const [expected = new Float32Array()] = await runChain(
    [engine.runner.openSession({ span, maxContext: 280 })],
    input,
    hiddenSize,
    280,
  )
  const expectedLogits = digestOf(await engine.ends.logits(expected.slice(0, 5 * hiddenSize)))
  const session = engine.runner.openSession({ span, maxContext: 280 })
  for (let at = 0; at < 280; at += 14) {
    const rows = await session.forward(at, input.slice(at * hiddenSize, (at + 14) * hiddenSize))
    collect()
    expect(digestOf(rows)).toBe(digestOf(expected.slice(at * hiddenSize, (at + 14) * hiddenSize)))
    expect(digestOf(await engine.ends.logits(expected.slice(0, 5 * hiddenSize)))).toBe(expectedLogits)
    const other = engine.runner.openSession({ span: { start: 3, end: 7 }, maxContext: 20 })
    const running = other.forward(0, sampleRows(4, hiddenSize))
    collect()
    await running
    other.close()
    collect()
  }
  await engine.close()
  collect()
})
