/**
 * The engine on an NVIDIA GPU: `npm run test:gpu` on a machine that docs/gpu.md describes. Elsewhere every test is
 * skipped, with what is missing as the reason.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createModelEnds } from '../../src/shard/ends.ts'
import { examineEngine } from '../../src/shard/probe.ts'
import { chooseProvider } from '../../src/shard/provider.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner, type SpanRunner } from '../../src/shard/runner.ts'
import { argmax, lastRow } from '../helpers/engine.ts'
import { type PackedModel, packModel as pack } from '../helpers/packed.ts'

const library = process.env.LLM_NODE_ORT_LIB || undefined
const { reason } = await chooseProvider('auto', 'q4/1', { library })
if (reason !== null) process.stderr.write(`tests/gpu are skipped. ${reason}\n`)

const recipes: readonly RecipeId[] = ['f32/1', 'q8/1', 'q4/1']
const golden = 'tests/golden'
const fixtures = readdirSync(golden).filter((name) => existsSync(join(golden, name, 'expected.json')))

/** Packed for one test. */
function packModel(source: string, recipe: RecipeId): PackedModel {
  const model = pack(source, recipe)
  onTestFinished(() => rmSync(model.folder, { recursive: true }))
  return model
}

interface Case {
  readonly name: string
  readonly prompt_ids: readonly number[]
  readonly greedy_ids: readonly number[]
}

function openCuda({ spec, layerFiles, recipe }: PackedModel): Promise<SpanRunner> {
  const span = { start: 0, end: spec.nLayers }
  return createSpanRunner({
    ...{ spec, recipe, span, layerFiles, library },
    threads: 1,
    kvBudgetBytes: 2 ** 30,
    provider: 'cuda',
  })
}

async function greedyIds(model: PackedModel, { prompt_ids: prompt, greedy_ids: wanted, name }: Case) {
  const { spec, recipe, endsFile } = model
  const runner = await openCuda(model)
  const ends = await createModelEnds({ spec, recipe, endsFile, threads: 1, library, provider: 'cuda' })
  const longRope = spec.rope.scaling.type === 'longrope' && name === 'long'
  const span = { start: 0, end: spec.nLayers }
  const session = runner.openSession({ span, maxContext: prompt.length + wanted.length, longRope })
  const ids: number[] = []
  let next: readonly number[] = prompt
  while (ids.length < wanted.length) {
    const hidden = await session.forward(session.length, await ends.embed(next))
    const id = argmax(await ends.logits(lastRow(hidden, spec.hiddenSize)))
    ids.push(id)
    next = [id]
  }
  session.close()
  await Promise.all([runner.close(), ends.close()])
  return ids
}

describe.skipIf(reason !== null)(`CUDA${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  test.each(recipes)('%s: has a numerics class, and says which rules hold', async (recipe) => {
    const exam = await examineEngine(recipe, { library, provider: 'cuda' })
    process.stderr.write(
      `${recipe} on CUDA: ${exam.broken.length === 0 ? 'all rules hold' : `broken ${exam.broken}`}\n`,
    )
    expect(exam.broken).not.toContain('products')
    expect(exam.numericsClass).not.toEqual((await examineEngine(recipe, { library })).numericsClass)
  })

  test.each(fixtures)('%s: the greedy ids of transformers, in f32 with attention in f16', async (fixture) => {
    const folder = join(golden, fixture)
    const model = packModel(folder, 'f32/1')
    const { cases } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as { cases: Case[] }
    // The smallest margin of these cases is 0.05 of logits up to 17: ten times what f16 changes.
    for (const one of cases) expect(await greedyIds(model, one)).toEqual(one.greedy_ids)
  })

  test('a hundred sessions leave no memory behind', async () => {
    const runner = await openCuda(packModel('models/demo-qwen3', 'q4/1'))
    const { nLayers, hiddenSize } = runner.spec
    for (let i = 0; i < 100; i++) {
      const session = runner.openSession({ span: { start: i % nLayers, end: nLayers }, maxContext: 2_000 })
      await session.forward(0, new Float32Array(3 * hiddenSize).fill(0.1))
      session.close()
    }
    expect(runner.memory().kvBytes).toBe(0)
    await runner.close()
  })
})
