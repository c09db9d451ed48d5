/** What a plan says a node will take, against what the kernel says it took: within a tenth. Linux (/proc). */
import { readFileSync } from 'node:fs'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeRandomModel } from '../../bench/lib/random-model.ts'
import { memoryFor } from '../../src/coverage/fit.ts'
import { processBytes } from '../../src/node/memory-check.ts'
import { figuresOf } from '../../src/node/model-figures.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { parseRecipe } from '../../src/shard/recipe.ts'
import { surveyModel } from '../../src/shard/survey.ts'
import { createSandbox, demoModel, runJson, type Sandbox, startNode } from '../e2e/cli.ts'

const reason = process.platform === 'linux' ? null : 'it reads /proc'
if (reason !== null) process.stderr.write(`tests/long/memory.test.ts is skipped: ${reason}\n`)

let sandbox: Sandbox
let large: string

beforeAll(async () => {
  sandbox = await createSandbox()
  large = await mkdtemp(join(tmpdir(), 'llm-node-memory-'))
  // Layers of Qwen3-0.6B's shape.
  const heads = { nHeads: 16, nKvHeads: 8, headDim: 128 }
  const sizes = { hiddenSize: 1_024, intermediateSize: 3_072, vocabSize: 32_768, maxContext: 4_096 }
  await writeRandomModel(large, { nLayers: 12, ...heads, ...sizes })
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    await copyFile(join(demoModel, name), join(large, name))
  }
})

afterAll(async () => {
  await sandbox?.close()
  await rm(large, { recursive: true, force: true })
})

function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib) * 1_024
}

const cases = [
  ['demo', 'i8', 12],
  ['large', 'i8', 3],
  ['large', 'i8', 12],
  ['large', 'q4', 3],
  ['large', 'q4', 12],
  ['large', 'f32', 4],
] as const

describe.skipIf(reason !== null)('a node takes what was planned', () => {
  test.each(cases)('%s model in %s, %i layers', async (which, recipe, layers) => {
    const model = which === 'demo' ? demoModel : large
    const home = sandbox.home(`${which}-${recipe}-${layers}`)
    await runJson(['setup', '--home', home, '--model', model, '--recipe', recipe, '--layers', `0-${layers - 1}`])
    const node = await startNode(home, ['--no-mdns', '--host', '127.0.0.1', '--port', '0', '--api-port', '0'])
    const measured = residentBytes(node.pid)
    node.kill('SIGTERM')
    await node.ended
    const figures = figuresOf(await surveyModel(createFolderSource(model)), parseRecipe(recipe))
    const { totalBytes } = memoryFor(layers, {
      nLayers: layers,
      layer: figures.layer,
      ends: { memoryBytes: figures.ends.memoryBytes, diskBytes: 0 },
      // Nobody has asked yet: keys and values come with the first session.
      kvTokens: 0,
      processBytes,
      memoryBytes: 0,
      diskBytes: 0,
    })
    process.stderr.write(`planned ${(totalBytes / 1e6).toFixed(0)} MB, measured ${(measured / 1e6).toFixed(0)} MB\n`)
    expect(totalBytes / measured).toBeGreaterThan(0.9)
    expect(totalBytes / measured).toBeLessThan(1.1)
  })
})
