/** Quantising while downloading takes at most three layers of memory (engine.md §3), however many layers. Linux. */
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { writeRandomModel } from '../../bench/lib/random-model.ts'
import { createFileServer } from '../../src/shard/file-server.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { parseRecipe } from '../../src/shard/recipe.ts'
import { surveyModel } from '../../src/shard/survey.ts'
import { layerUnit } from '../../src/shard/units.ts'
import { demoModel } from '../e2e/cli.ts'

const reason = process.platform === 'linux' ? null : 'it reads /proc'
if (reason !== null) process.stderr.write(`tests/long/download-memory.test.ts is skipped: ${reason}\n`)

describe.skipIf(reason !== null)('the peak of a download', () => {
  test.each(['i8', 'q4'])('%s', async (recipe) => {
    const root = await mkdtemp(join(tmpdir(), 'llm-node-peak-'))
    try {
      const model = join(root, 'model')
      const heads = { nHeads: 16, nKvHeads: 8, headDim: 128 }
      const sizes = { hiddenSize: 2_048, intermediateSize: 6_144, vocabSize: 2_048, maxContext: 2_048 }
      await writeRandomModel(model, { nLayers: 6, ...heads, ...sizes })
      for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
        await copyFile(join(demoModel, name), join(model, name))
      }
      const layerBytes = layerUnit(await surveyModel(createFolderSource(model)), 0, parseRecipe(recipe)).rawBytes
      const server = await createFileServer({ root: model })
      const script = join(import.meta.dirname, 'download-memory.process.ts')
      const args = [script, server.url, join(root, 'held'), recipe, '6']
      const { stdout } = await promisify(execFile)(process.execPath, args)
      await server.close()
      const { before, after } = JSON.parse(stdout)
      const layers = (after - before) / layerBytes
      process.stderr.write(
        `${recipe}: ${(after / 1e6).toFixed(0)} MB at most, ${layers.toFixed(2)} layers above the program\n`,
      )
      expect(layers).toBeLessThan(3)
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  })
})
