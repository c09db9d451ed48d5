/** The way of a GPU, on the processor: keys and values in f16 where the session computes, all of them from the start. */
import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { createDeviceExecutor } from '../../src/shard/device-executor.ts'
import type { Executor } from '../../src/shard/executor.ts'
import { buildSpanGraph } from '../../src/shard/graph.ts'
import type { LayerWeights } from '../../src/shard/graph-layer.ts'
import { openOrt } from '../../src/shard/ort.ts'
import { readPackedLayer } from '../../src/shard/packed-file.ts'
import { chooseProvider } from '../../src/shard/provider.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner } from '../../src/shard/runner.ts'
import { openEngine, sampleRows } from '../helpers/engine.ts'
import { type PackedModel, packModel as pack } from '../helpers/packed.ts'

const recipe: RecipeId = 'f32/1'

/** Packed for one test. */
function packModel(source: string, recipe: RecipeId): PackedModel {
  const model = pack(source, recipe)
  onTestFinished(() => rmSync(model.folder, { recursive: true }))
  return model
}

async function openDevice(model: PackedModel): Promise<{ executor: Executor; close(): void }> {
  const { spec, layerFiles } = model
  const span = { start: 0, end: spec.nLayers }
  const weights: LayerWeights[] = []
  for (const [i, path] of layerFiles.entries()) {
    weights.push((await readPackedLayer(path, spec, recipe, i)).weights)
  }
  const byLayer = (layer: number) => weights[layer] ?? expect.fail(`no layer ${layer}`)
  const ort = openOrt()
  const onnx = buildSpanGraph({ spec, recipe, span, weights: byLayer, kvType: 'f16' })
  const graph = await ort.createSession(onnx, { threads: 1, weightsFolder: dirname(layerFiles[0] ?? '') })
  const executor = createDeviceExecutor({ spec, recipe, span, threads: 1 }, { ort, graph, clock: systemClock })
  const close = () => {
    executor.release()
    graph.release()
  }
  return { executor, close }
}

async function run(executor: Executor, model: PackedModel, hidden: Float32Array, sizes: readonly number[]) {
  const { hiddenSize, nLayers } = model.spec
  const session = executor.openSession({ start: 0, end: nLayers }, hidden.length / hiddenSize + 1, {
    factors: 'short',
    local: true,
  })
  const output = new Float32Array(hidden.length)
  let pos = 0
  for (const nTokens of sizes) {
    const rows = hidden.subarray(pos * hiddenSize, (pos + nTokens) * hiddenSize)
    output.set(
      (await executor.run([{ session, pos, nTokens, hidden: rows }]))[0] ?? new Float32Array(),
      pos * hiddenSize,
    )
    pos += nTokens
  }
  session.release()
  return output
}

test.each(['qwen3-tied-bf16', 'mistral-f32', 'phi3-bf16'])('%s: near to f32, however it is cut', async (fixture) => {
  const source = `tests/golden/${fixture}`
  const reference = await openEngine(source, recipe)
  const model = packModel(source, recipe)
  const { executor, close } = await openDevice(model)
  const { hiddenSize, nLayers } = model.spec
  const hidden = sampleRows(60, hiddenSize)
  const session = reference.runner.openSession({ span: { start: 0, end: nLayers }, maxContext: 60 })
  const expected = await session.forward(0, hidden)
  const whole = await run(executor, model, hidden, [60])
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const apart = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (whole[i] ?? 0))), 0)
  // f16 has 11 bits; attention over 60 random rows adds little to that.
  expect(apart / largest).toBeGreaterThan(0)
  expect(apart / largest).toBeLessThan(0.01)
  expect(await run(executor, model, hidden, [30, 1, 2, 27])).toEqual(whole)
  close()
  await reference.close()
})

test('no GPU: said with the reason, and auto computes on the processor', async () => {
  const cpu = await chooseProvider('auto', 'q4/1')
  expect(cpu.provider).toBe('cpu')
  expect(cpu.reason).toMatch(/^CUDA cannot be used: .*providers_cuda.* is not beside .*\.$/)
  await expect(chooseProvider('cuda', 'q4/1')).rejects.toMatchObject({
    code: 'ENGINE_UNAVAILABLE',
    message: cpu.reason,
    hint: expect.stringContaining('docs/gpu.md'),
  })
  expect(await chooseProvider('cpu', 'q4/1')).toEqual({ provider: 'cpu', reason: null })
})

test('a GPU that computes is taken; the recipe i8 never goes there', async () => {
  const deps = { assertCuda: () => Promise.resolve() }
  expect(await chooseProvider('auto', 'q4/1', {}, deps)).toEqual({ provider: 'cuda', reason: null })
  expect(await chooseProvider('cuda', 'f32/1', {}, deps)).toEqual({ provider: 'cuda', reason: null })
  expect(await chooseProvider('auto', 'i8/1')).toMatchObject({ provider: 'cpu', reason: /recipe i8/ })
  await expect(chooseProvider('cuda', 'i8/1')).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
})

test('a session that is to run on CUDA is refused without it, not run elsewhere', async () => {
  const model = packModel('tests/golden/phi3-bf16', recipe)
  const { spec, layerFiles } = model
  const span = { start: 0, end: spec.nLayers }
  const options = { spec, recipe, span, layerFiles, threads: 1, kvBudgetBytes: 2 ** 24, provider: 'cuda' as const }
  await expect(createSpanRunner(options)).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
})
