/** The verbs around a node: settings, models on the disk, the background, logs. */
import { open, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { StatusBody } from '../../src/api/types.ts'
import { createSandbox, isAlive, runCli, runJson, type Sandbox } from './cli.ts'

let sandbox: Sandbox
let home: string[]

beforeAll(async () => {
  sandbox = await createSandbox()
  home = ['--home', sandbox.home('node')]
  await runJson(['setup', ...home, '--layers', '0-1', '--no-ends', '--recipe', 'q4'])
})

afterAll(() => sandbox?.close())

test('a detached node outlives its command, is watched, logged and stopped', async () => {
  const flags = ['--no-mdns', '--host', '127.0.0.1', '--port', '0', '--api-port', '0', '--threads', '1']
  const state = await runJson<{ pid: number; serving: string[] }>(['start', ...home, '--detach', ...flags])
  try {
    expect(isAlive(state.pid)).toBe(true)
    expect(state.serving).toEqual(['demo-qwen3 0-1'])
    expect(await runJson<StatusBody>(['status', ...home])).toMatchObject({ pid: state.pid })
    const second = await runCli(['start', ...home, '--detach', ...flags])
    expect(second).toMatchObject({ code: 3 })
    expect(second.stderr).toContain('(HOME_IN_USE)')
    const removal = await runCli(['models', 'rm', 'demo-qwen3', ...home])
    expect(removal.stderr).toContain('llm-node stop')
    expect((await runCli(['logs', ...home])).code).toBe(0)
  } finally {
    await runCli(['stop', ...home])
  }
  expect(isAlive(state.pid)).toBe(false)
})

test('pause holds over a restart, and resume ends it', async () => {
  const flags = ['--no-mdns', '--host', '127.0.0.1', '--port', '0', '--api-port', '0', '--threads', '1']
  expect(await runJson(['pause', ...home])).toMatchObject({ running: false, paused: null })
  await runJson(['start', ...home, '--detach', ...flags])
  const status = async () => (await runJson<StatusBody>(['status', ...home])).paused
  expect(await status()).toContain('llm-node resume')
  expect(await runJson(['resume', ...home])).toMatchObject({ running: true, paused: null })
  expect(await status()).toBeNull()
  expect((await runCli(['pause', ...home])).stdout).toContain('serves nobody now')
  expect((await runCli(['resume', ...home])).stdout).toContain('It serves others.')
  await runJson(['stop', ...home])
})

test('a detached start says why it did not start', async () => {
  const { code, stderr } = await runCli(['start', '--home', sandbox.home('empty'), '--detach'])
  expect(code).toBe(3)
  expect(stderr).toContain('(NOT_SET_UP)')
  expect(stderr).toContain('llm-node setup')
})

test('a unit for systemd repeats the flags', async () => {
  const { stdout } = await runCli(['start', ...home, '--print-systemd', '--no-mdns', '--network', 'two words'])
  expect(stdout).toContain(`start --home ${sandbox.home('node')} --no-mdns --network "two words"\n`)
  expect(stdout).toContain('WantedBy=default.target')
})

test('settings are shown, changed and checked', async () => {
  const get = (key: string) => runJson<{ value: unknown }>(['config', 'get', key, ...home])
  expect((await get('network.port')).value).toBeNull()
  await runJson(['config', 'set', 'network.port', '5701', ...home])
  expect((await get('network.port')).value).toBe(5701)
  const wrong = await runCli(['config', 'set', 'network.port', '70000', ...home])
  expect(wrong).toMatchObject({ code: 2 })
  expect(wrong.stderr).toContain('network.port')
  expect((await get('network.port')).value).toBe(5701)
  const unknown = await runCli(['config', 'get', 'network.ports', ...home])
  expect(unknown.stderr).toContain('There is no setting "network.ports"')
  const { stdout } = await runCli(['config', 'path', ...home])
  expect(stdout.trim()).toBe(join(sandbox.home('node'), 'config.json'))
})

test('settings are edited in the editor of the user, and a mistake changes nothing', async () => {
  const home = ['--home', await sandbox.folder('edited')]
  const edit = (script: string) => runCli(['config', 'edit', ...home], { env: { VISUAL: '', EDITOR: script } })
  expect((await edit('true')).stdout).toContain('Nothing was changed.')
  const changed = await edit(`sed -i 's/"level": "info"/"level": "warn"/'`)
  expect(changed).toMatchObject({ code: 0, stdout: expect.stringContaining('Saved to') })
  expect((await runJson<{ value: string }>(['config', 'get', 'log.level', ...home])).value).toBe('warn')
  const wrong = await edit(`sed -i 's/"level": "warn"/"level": "loud"/'`)
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringMatching(/log\.level.*Nothing was changed/) })
  const kept = /What you wrote is in (.*config\.json)\./.exec(wrong.stderr)?.[1] ?? ''
  expect(await readFile(kept, 'utf8')).toContain('loud')
  await rm(dirname(kept), { recursive: true })
  expect((await runJson<{ value: string }>(['config', 'get', 'log.level', ...home])).value).toBe('warn')
  expect((await edit('false')).stderr).toContain('did not end well')
})

test('a damaged layer is found and fetched again', async () => {
  const layer = join(sandbox.home('node'), 'models', 'demo-qwen3-q4', 'layer-00001.q4-1.safetensors')
  const file = await open(layer, 'r+')
  const { size } = await file.stat()
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, size - 1)
  await file.write(Uint8Array.of((byte[0] ?? 0) ^ 255), 0, 1, size - 1)
  await file.close()
  const found = await runCli(['models', 'verify', ...home])
  expect(found.code).toBe(4)
  expect(found.stdout).toContain('layer-00001.q4-1.safetensors is damaged')
  expect(found.stderr).toContain('--repair')
  expect(await runJson(['models', 'verify', '--repair', ...home])).toMatchObject({ repaired: ['demo-qwen3'] })
  expect(await runJson(['models', 'verify', ...home])).toMatchObject({ sound: true })
  await rm(layer)
  await runJson(['models', 'pull', 'demo-qwen3', ...home])
  expect(await runJson(['models', 'verify', ...home])).toMatchObject({ sound: true })
})

test('a layer that was damaged since is found at the start and fetched again, alone', async () => {
  const layer = join(sandbox.home('node'), 'models', 'demo-qwen3-q4', 'layer-00000.q4-1.safetensors')
  const whole = await readFile(layer)
  await writeFile(
    layer,
    whole.map((byte, at) => (at === whole.length - 7 ? byte ^ 1 : byte)),
  )
  const state = await runJson<{ serving: string[] }>(['start', ...home, '--detach', '--no-mdns', '--api-port', '0'])
  await runCli(['stop', ...home])
  expect(state.serving).toEqual(['demo-qwen3 0-1'])
  expect((await readFile(layer)).equals(whole)).toBe(true)
  const { stdout } = await runCli(['logs', ...home])
  expect(stdout).toContain('damaged files are fetched again')
  expect(stdout).toContain('layer-00000.q4-1.safetensors')
  expect(stdout).not.toContain('layer-00001')
})

test('models are listed and removed; the catalogue knows others', async () => {
  const { models } = await runJson<{ models: { name: string; layers: string }[] }>(['models', 'ls', ...home])
  expect(models).toMatchObject([{ name: 'demo-qwen3', layers: '0-1', problem: null }])
  expect((await runCli(['models', 'info', 'qwen3-0.6b', ...home])).stdout).toContain('Qwen/Qwen3-0.6B: 28 layers')
  await runJson(['models', 'rm', 'demo-qwen3', ...home])
  expect(await runJson(['models', 'ls', ...home])).toMatchObject({ models: [] })
  const gone = await runCli(['models', 'rm', 'demo-qwen3', ...home])
  expect(gone).toMatchObject({ code: 4 })
})

test('doctor answers for a fresh home, as text and as JSON', async () => {
  const fresh = ['--home', sandbox.home('fresh')]
  const { healthy, checks } = await runJson<{ healthy: boolean; checks: { name: string }[] }>(['doctor', ...fresh])
  expect(healthy).toBe(true)
  expect(checks.length).toBeGreaterThanOrEqual(12)
  expect((await runCli(['doctor', ...fresh])).stdout).toContain('Nothing stands in the way.')
})

test('completion prints a script', async () => {
  const { code, stdout } = await runCli(['completion'])
  expect({ code, named: stdout.includes('begin-llm-node-completions') }).toEqual({ code: 0, named: true })
})
