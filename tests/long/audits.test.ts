/** 1,000 honest audits accuse nobody; and how far rows of another recipe are, for audits across numerics classes. */
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { pipelineLimits } from '../../src/base/limits.ts'
import { distance } from '../../src/pipeline/audit.ts'
import { createAuditBook } from '../../src/pipeline/audit-book.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { openRunner } from '../helpers/engine.ts'
import { packModel } from '../helpers/packed.ts'
import { expectHonestAudits } from '../integration/honest-audits.ts'
import { createCleanup } from '../integration/p2p-helpers.ts'
import { openTestModel, startComputeNode, startEntry, type TestModel } from '../integration/pipeline-helpers.ts'

const cleanup = createCleanup()
let model: TestModel

beforeAll(async () => {
  model = await openTestModel(cleanup)
})
afterAll(() => cleanup.run())

test('1,000 honest audits: 0 accusations', async () => {
  const audits = createAuditBook({ probability: 1, newPeers: 1, clock: systemClock, random: () => 0 })
  const spans = [0, 4, 8].map((start) => ({ start, end: start + 4 }))
  const nodes = await Promise.all(
    [1, 2].flatMap((decodeMs) => spans.map((span) => startComputeNode(cleanup, model, span, { decodeMs }))),
  )
  await expectHonestAudits(1_000, await startEntry(cleanup, model, nodes, { audits }))
  expect(audits.evidence).toEqual([])
}, 1_800_000)

/** Rows after all layers for a fixed text: [nTokens, hiddenSize]. */
async function rowsOf(recipe: RecipeId, chunk: number): Promise<Float32Array[]> {
  const packed = packModel('models/demo-qwen3', recipe)
  const runner = await openRunner(packed, {})
  try {
    const { hiddenSize } = packed.spec
    const ids = model.askable.text.encodeChat([{ role: 'user', content: 'one two three four '.repeat(20) }])
    const session = runner.openSession({ span: { start: 0, end: packed.spec.nLayers }, maxContext: ids.length })
    const rows: Float32Array[] = []
    for (let at = 0; at < ids.length; at += chunk) {
      const out = await session.forward(at, await model.askable.ends.embed(ids.slice(at, at + chunk)))
      for (let row = 0; row * hiddenSize < out.length; row++)
        rows.push(out.slice(row * hiddenSize, (row + 1) * hiddenSize))
    }
    session.close()
    return rows
  } finally {
    await runner.close()
    rmSync(packed.folder, { recursive: true })
  }
}

/** Measured: q8 0.040, i8 0.045, q4 0.31 at the row that is furthest. */
test('a recipe that rounds more than it says is beyond the tolerance', async () => {
  const whole = await rowsOf('f32/1', 64)
  const furthest = (rows: readonly Float32Array[]) =>
    Math.max(...rows.map((row, at) => distance(row, whole[at] ?? new Float32Array(0))))
  const found: number[] = []
  for (const recipe of ['q8/1', 'i8/1', 'q4/1'] as const) found.push(furthest(await rowsOf(recipe, 64)))
  for (const worst of found) expect(worst).toBeGreaterThan(pipelineLimits.auditTolerance)
})
