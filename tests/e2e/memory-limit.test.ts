/** A node that may use 1 GB, and a model that would need more: real processes, a real limit. */
import { copyFile, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { AskResult, StatusBody } from '../../src/api/types.ts'
import { parseModelConfig } from '../../src/model/config.ts'
import { encodeSafetensorsHeader } from '../../src/shard/safetensors.ts'
import { layerSources } from '../../src/shard/survey.ts'
import { createSandbox, demoModel, runCli, runJson, startNode } from './cli.ts'
import { controlGroupUnavailable, createControlGroup } from './control-group.ts'

const unavailable = controlGroupUnavailable()
const LIMIT = 1_000_000_000
const nLayers = 8
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** Zeros take no room on the disk until they are packed: 8 layers of 63 MB in f32. */
async function writeModel(folder: string): Promise<void> {
  const config = {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    ...{ hidden_size: 1_024, intermediate_size: 3_072, num_hidden_layers: nLayers, vocab_size: 2_048 },
    ...{ num_attention_heads: 16, num_key_value_heads: 8, head_dim: 128, max_position_embeddings: 4_096 },
    ...{ rms_norm_eps: 1e-6, rope_theta: 1e6, hidden_act: 'silu', attention_bias: false, tie_word_embeddings: true },
    eos_token_id: 0,
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(demoModel, name), join(folder, name))
  const spec = parseModelConfig(config)
  const tensors = [spec.embedding, spec.finalNorm.source, ...spec.layers.flatMap(layerSources)].map(
    ({ name, shape }) => ({ name, shape, dtype: 'BF16' as const }),
  )
  const header = encodeSafetensorsHeader(tensors, { alignment: 8 })
  const bytes = tensors.reduce((sum, { shape }) => sum + 2 * shape.reduce((product, dim) => product * dim, 1), 0)
  const file = await open(join(folder, 'model.safetensors'), 'w')
  await file.write(header)
  await file.truncate(header.length + bytes)
  await file.close()
}

test.skipIf(unavailable !== null)(
  `the plan respects the limit, memory stays under it and nothing is killed${unavailable === null ? '' : ` (${unavailable})`}`,
  async () => {
    const group = createControlGroup(LIMIT)
    cleanups.push(() => group.remove())
    const sandbox = await createSandbox()
    cleanups.push(() => sandbox.close())
    const model = await sandbox.folder('model')
    await writeModel(model)
    const network = ['--network', 'memory-limit', '--no-mdns']
    const limited = { prefix: group.prefix }

    const plan = await runJson<{
      machine: { memory: { totalBytes: number; limitedBy: string } }
      fit: { layers: number; limitedBy: string }
      recommended: { layers: string; memory: { totalBytes: number } }
    }>(['plan', '--home', sandbox.home('small'), '--model', model, '--recipe', 'f32', '--no-ends', '--alone'], limited)
    expect(plan.machine.memory).toMatchObject({ limitedBy: 'cgroup', totalBytes: expect.closeTo(LIMIT, -5) })
    expect(plan.fit.limitedBy).toBe('memory')
    expect(plan.fit.layers).toBeGreaterThan(3)
    expect(plan.fit.layers).toBeLessThan(nLayers)
    expect(plan.recommended.memory.totalBytes).toBeLessThan(0.8 * LIMIT)

    const tooMuch = ['setup', '--home', sandbox.home('small'), '--model', model, '--recipe', 'f32', '--layers', 'all']
    const refused = await runCli([...tooMuch, ...network], limited)
    expect(refused).toMatchObject({ code: 3, stderr: expect.stringContaining('(OUT_OF_MEMORY)') })

    const setup = ['setup', '--model', model, '--recipe', 'f32', ...network]
    const rest = `${plan.fit.layers}-${nLayers - 1}`
    await runJson([...setup, '--home', sandbox.home('small'), '--yes', '--no-ends'], limited)
    await runJson([...setup, '--home', sandbox.home('large'), '--layers', rest])
    const flags = ['--host', '127.0.0.1', '--port', '0', '--api-port', '0', ...network]
    const small = sandbox.track(await startNode(sandbox.home('small'), flags, limited))
    const meet = ['--bootstrap', small.listening[0] ?? '']
    const large = sandbox.track(await startNode(sandbox.home('large'), [...flags, ...meet]))
    const prompt = 'One sentence that is read again and again. '.repeat(40)
    const answer = await runJson<AskResult>(['ask', prompt, '--home', large.home, '--max-tokens', '8', '--ignore-end'])
    expect(answer.hops.map(({ span }) => span)).toContainEqual({ start: 0, end: plan.fit.layers })
    const { rssBytes, models } = await runJson<StatusBody>(['status', '--home', small.home])
    expect(models[0]?.layers).toEqual({ start: 0, end: plan.fit.layers })
    expect(rssBytes).toBeLessThan(LIMIT)
    expect(rssBytes).toBeGreaterThan(plan.fit.layers * 60e6)
    expect(group.mostBytes() ?? 0).toBeLessThanOrEqual(LIMIT)
    expect(group.kills()).toBe(0)
  },
)
