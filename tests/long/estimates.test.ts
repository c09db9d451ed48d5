/** What plan and ask promise in tokens per second, beside what then happens: within a quarter. Wants a quiet machine. */
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeRandomModel } from '../../bench/lib/random-model.ts'
import type { AskResult } from '../../src/api/types.ts'
import { createSandbox, demoModel, runJson, type Sandbox, startNode } from '../e2e/cli.ts'

const shape = {
  ...{ nLayers: 8, hiddenSize: 1_024, nHeads: 16, nKvHeads: 8, headDim: 128 },
  ...{ intermediateSize: 3_072, vocabSize: 2_048, maxContext: 2_048 },
}
const network = ['--network', 'estimates', '--no-mdns', '--host', '127.0.0.1', '--port', '0', '--api-port', '0']
const how = ['--temperature', '0', '--max-tokens', '100', '--ignore-end', '--no-speculate']
const threads = ['--threads', '1']

let sandbox: Sandbox
let model: string

beforeAll(async () => {
  sandbox = await createSandbox()
  model = await sandbox.folder('model')
  await writeRandomModel(model, shape)
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(demoModel, name), join(model, name))
})
afterAll(() => sandbox?.close())

interface Estimates {
  readonly estimate: { readonly solo: number | null; readonly split: number | null }
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0

function compare(what: string, promised: number | null, happened: readonly (number | null)[]): void {
  const real = median(happened.map((value) => value ?? 0))
  process.stdout.write(`${what.padEnd(28)} promised ${promised?.toFixed(1)} tokens/s, happened ${real.toFixed(1)}\n`)
  expect.soft((promised ?? 0) / real, what).toBeGreaterThan(0.75)
  expect.soft((promised ?? 0) / real, what).toBeLessThan(1.25)
}

test('alone and split, before anything is fetched and for each answer', async () => {
  const home = (name: string) => ['--home', sandbox.home(name)]
  const setup = (name: string, ...what: string[]) =>
    runJson(['setup', ...home(name), '--model', model, '--recipe', 'q4', ...network.slice(0, 3), ...what])
  await runJson(['config', 'set', 'engine.threads', '1', ...home('whole')])
  const plan = await runJson<Estimates>(['plan', ...home('whole'), '--model', model, '--recipe', 'q4', '--alone'])
  await setup('whole', '--layers', 'all')
  await setup('a', '--layers', '0-3', '--no-ends')
  await setup('b', '--layers', '4-7', '--no-ends')
  await setup('entry', '--layers', 'none')
  const rounds = [0, 1, 2]
  const solo: AskResult[] = []
  for (const _ of rounds) solo.push(await runJson(['ask', 'One.', ...home('whole'), '--solo', ...threads, ...how]))
  const real = solo.map(({ tokensPerSecond }) => tokensPerSecond)
  compare('plan, alone', plan.estimate.solo, real)
  compare('ask, alone', median(solo.map(({ estimate }) => estimate.solo ?? 0)), real)

  const a = sandbox.track(await startNode(sandbox.home('a'), [...network, ...threads]))
  const meetA = ['--bootstrap', a.listening[0] ?? '']
  const b = sandbox.track(await startNode(sandbox.home('b'), [...network, ...threads, ...meetA]))
  const meetB = ['--bootstrap', b.listening[0] ?? '']
  sandbox.track(await startNode(sandbox.home('entry'), [...network, ...threads, ...meetA, ...meetB]))
  const split: AskResult[] = []
  // The first answers also bring the round trips that the estimate needs.
  for (const _ of [...rounds, ...rounds]) split.push(await runJson(['ask', 'One.', ...home('entry'), ...how]))
  const last = split.slice(rounds.length)
  for (const { hops, estimate, tokensPerSecond } of split)
    process.stdout.write(
      `${JSON.stringify({ e: estimate.split, t: tokensPerSecond, hops: hops.map(({ ms, linkMs }) => [ms, linkMs]) })}\n`,
    )
  const promised = median(last.map(({ estimate }) => estimate.split ?? 0))
  compare(
    'ask, two nodes',
    promised,
    last.map(({ tokensPerSecond }) => tokensPerSecond),
  )
})
