import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AskResult } from '../../src/api/types.ts'
import { createFileServer, type FileServer } from '../../src/shard/file-server.ts'
import { demoModel, expectedAnswer, runCli, runJson } from './cli.ts'
import { createSwarm, oneThread, type Swarm } from './swarm.ts'

let mirror: FileServer
let swarm: Swarm

beforeAll(async () => {
  mirror = await createFileServer({ root: demoModel })
  swarm = await createSwarm()
})

afterAll(async () => {
  await swarm?.close()
  await mirror?.close()
})

/** Flags to look at the swarm from a fresh home. */
async function meet(name: string): Promise<string[]> {
  const config = JSON.parse(await readFile(join(swarm.sandbox.home('first'), 'config.json'), 'utf8'))
  const flags = swarm.as(name)
  const at = flags.indexOf('--host')
  return [...flags.slice(0, at), ...flags.slice(at + 4), '--network', config.network.name]
}

interface SetupBody {
  readonly model: { readonly layers: string | null; readonly ends: boolean; readonly recipe: string }
  readonly reason: string
  readonly selfTest: { readonly numericsClass: string; readonly layer: number | null }
}

test('a newcomer closes the gap that two nodes leave, fetches only it, and answers', async () => {
  const question = 'What is llm-node?'
  const expected = await expectedAnswer(question)
  await Promise.all([
    swarm.setup('first', '--layers', '0-3', '--no-ends'),
    swarm.setup('third', '--layers', '8-11', '--no-ends'),
    swarm.setup('asker', '--layers', 'none'),
  ])
  const first = await swarm.start('first')
  await swarm.start('third')

  const startedMs = performance.now()
  const steps: { readonly step: string; readonly atMs: number }[] = []
  const mark = (step: string) => {
    steps.push({ step, atMs: Math.round(performance.now() - startedMs) })
  }
  const setup = await runJson<SetupBody>([
    ...['setup', '--yes', '--model', mirror.url, '--client', 'newcomer'],
    ...(await meet('newcomer')),
  ])
  mark('set up: look at the machine and the swarm, choose, fetch, test')
  expect(setup.model).toMatchObject({ layers: '4-7', ends: true, recipe: 'f32' })
  expect(setup.selfTest).toEqual({
    numericsClass: expect.stringMatching(/^[0-9a-f]{64}$/),
    provider: 'cpu',
    notes: [],
    layer: 4,
    cost: expect.anything(),
  })
  expect(setup.reason).toContain('4-7')
  expect(setup.reason).toContain('held by nobody')
  const files = mirror.stats().clients.newcomer?.files ?? {}
  const weights = Object.entries(files).filter(([name]) => name.endsWith('.safetensors'))
  const fetched = weights.reduce((sum, [, bytes]) => sum + bytes, 0)
  // A third of the layers, and the ends: 1.6 MB of layers and 0.5 MB of embedding of 5.3 MB.
  expect(fetched).toBeLessThan(2.4e6)

  const node = await swarm.start('newcomer')
  mark('start, until it serves')
  expect(node.address).not.toBe(first.address)
  const answer = await runJson<AskResult>(['ask', question, ...swarm.as('asker'), ...oneThread, '--temperature', '0'])
  mark('ask, until the whole answer is there')
  expect(answer.tokens).toEqual(expected.answer_ids)
  expect(answer.exact).toBe(true)
  process.stdout.write(`\n${'from a fresh home to the first answer'.padEnd(66)}ms\n`)
  for (const [i, { step, atMs }] of steps.entries()) {
    process.stdout.write(`${step.padEnd(62)}${String(atMs - (steps[i - 1]?.atMs ?? 0)).padStart(6)}\n`)
  }
  expect(steps.at(-1)?.atMs).toBeLessThan(15_000)
})

test('plan says the same before anything is fetched', async () => {
  const plan = await runJson<{ recommended: Record<string, unknown>; fit: unknown; swarm: { peers: number } }>([
    ...['plan', '--model', mirror.url, '--recipe', 'f32', '--no-ends'],
    ...(await meet('planner')),
  ])
  expect(plan.fit).toEqual({ layers: 12, limitedBy: 'model' })
  expect(plan.swarm.peers).toBeGreaterThan(0)
  expect(plan.recommended).toMatchObject({ why: 'everything', layers: '0-11' })
  expect(plan.recommended.downloadBytes).toBeGreaterThan(4e6)
})

test('a set-up that was stopped goes on with what it had decided', async () => {
  const home = swarm.sandbox.home('stopped')
  await mkdir(join(home, 'state'), { recursive: true })
  const begun = { model: mirror.url, layers: '2-3', ends: false, recipe: 'q4' }
  await writeFile(join(home, 'state', 'setup.json'), JSON.stringify(begun))
  const { model } = await runJson<SetupBody>(['setup', '--home', home, '--yes'])
  expect(model).toMatchObject({ layers: '2-3', ends: false, recipe: 'q4' })
  const again = await runCli(['setup', '--home', home, '--yes', '--no-mdns', '--no-ends'])
  expect(again.stderr).not.toContain('Going on')
})

test('layers that the machine cannot hold are refused with figures, before a byte of them is fetched', async () => {
  const folder = swarm.sandbox.home('huge-model')
  await mkdir(folder, { recursive: true })
  const config = {
    model_type: 'llama',
    ...{ hidden_size: 65_536, intermediate_size: 524_288, num_attention_heads: 512, num_key_value_heads: 512 },
    ...{ num_hidden_layers: 96, head_dim: 128, vocab_size: 32_000, max_position_embeddings: 4_096 },
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  const { code, stderr } = await runCli([
    ...['setup', '--home', swarm.sandbox.home('small'), '--model', folder, '--layers', 'all', '--recipe', 'f32'],
  ])
  expect(code).toBe(3)
  expect(stderr).toContain('(OUT_OF_MEMORY)')
  expect(stderr).toMatch(/need [\d,]+ MB of memory; [\d,]+ MB of the [\d,]+ MB here may be used/)
  expect(stderr).toContain('llm-node plan')
})
