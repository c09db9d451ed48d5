/** What `npm install llm-node` gives in an empty folder: packed, installed without dev dependencies, run. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'

const run = promisify(execFile)
const repository = fileURLToPath(new URL('../..', import.meta.url))
// The engine's own install script fetches CUDA libraries, which are not used.
const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llm-node-package-'))
  await run('npm', ['pack', '--pack-destination', folder], { cwd: repository, env })
  const [tarball = ''] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'))
  await writeFile(join(folder, 'package.json'), '{ "private": true }')
  await run('npm', ['install', '--omit=dev', '--no-audit', '--no-fund', `./${tarball}`], { cwd: folder, env })
})

afterAll(() => rm(folder, { recursive: true, force: true }))

async function llmNode(...args: string[]): Promise<Record<string, unknown>> {
  const bin = join(folder, 'node_modules', '.bin', 'llm-node')
  const { stdout } = await run(bin, [...args, '--json'], { cwd: folder, env })
  return JSON.parse(stdout)
}

test('no dev dependency and no source comes along', () => {
  for (const name of ['vitest', 'typescript', '@biomejs/biome', 'node']) {
    expect(existsSync(join(folder, 'node_modules', name)), name).toBe(false)
  }
  const installed = join(folder, 'node_modules', 'llm-node')
  expect(existsSync(join(installed, 'src'))).toBe(false)
  expect(existsSync(join(installed, 'models', 'catalogue.json'))).toBe(true)
})

test('the installed program says its version, finds nothing in the way and knows its catalogue', async () => {
  expect(await llmNode('version')).toMatchObject({ version: '0.1.0' })
  expect(await llmNode('doctor', '--home', join(folder, 'home'))).toMatchObject({ healthy: true })
  expect(await llmNode('models', 'info', 'Qwen3-0.6B')).toMatchObject({ model: { nLayers: 28 } })
})

test('the demo runs from the package', async () => {
  expect(await llmNode('demo')).toMatchObject({ identical: true })
})
