/** Each fault that can be made on one machine, and what `doctor` says to do about it. */
import { chmod, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseConfig } from '../../src/base/config.ts'
import type { Machine } from '../../src/node/detect.ts'
import type { CheckResult } from '../../src/node/doctor.ts'
import { type ExamineDeps, examine, realExamineDeps } from '../../src/node/examine.ts'
import { type Home, loadConfig, locateHome, saveConfig } from '../../src/node/home.ts'
import { setupModel } from '../../src/node/setup.ts'

const demoModel = fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))
const GB = 1e9
const machine: Machine = {
  cpu: { model: 'Test', cores: 2, features: new Set(['avx512_vnni']) },
  memory: { totalBytes: 8 * GB, freeBytes: 6 * GB, limitedBy: 'machine' },
  disk: { totalBytes: 100 * GB, freeBytes: 50 * GB },
  gpus: [],
  battery: null,
}

const cleanups: (() => Promise<unknown>)[] = []
let home: Home

beforeEach(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-test-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  home = locateHome(folder, {})
  const config = parseConfig({ network: { mdns: false, port: 0 } })
  const signal = new AbortController().signal
  await setupModel(home, config, { model: demoModel, layers: '0-1', ends: false, recipe: 'i8', signal })
})

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function diagnose(deps: Partial<ExamineDeps> = {}): Promise<(name: string) => CheckResult> {
  const all = await examine(home, new AbortController().signal, {
    ...realExamineDeps,
    detect: async () => machine,
    multicast: async () => {},
    ...deps,
  })
  return (name) => {
    const found = all.find((check) => check.name === name)
    if (found === undefined) throw new Error(`no check "${name}"`)
    return found
  }
}

async function configure(change: Record<string, Record<string, unknown>>): Promise<void> {
  const config = await loadConfig(home, { env: {} })
  const sections = Object.entries(change).map(([name, values]) => [
    name,
    { ...(config[name as 'network'] as object), ...values },
  ])
  await saveConfig(home, parseConfig({ ...config, ...Object.fromEntries(sections) }))
}

/** A port of 127.0.0.1 that somebody listens on, or did. */
async function usePort(keep: boolean): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const close = () => new Promise((resolve) => server.close(resolve))
  if (keep) cleanups.push(close)
  else await close()
  return port
}

/** A running node as far as the doctor can see: a run file, and an API that gives these answers. */
async function pretendNode(answers: Record<string, unknown>, pid = process.pid): Promise<void> {
  const server = createHttpServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(answers[request.url ?? ''] ?? {}))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => new Promise((resolve) => server.close(resolve)))
  const { port } = server.address() as AddressInfo
  await mkdir(join(home.runFile, '..'), { recursive: true })
  const state = { pid, apiUrl: `http://127.0.0.1:${port}`, token: 'x'.repeat(48), address: 'test' }
  await writeFile(home.runFile, JSON.stringify(state))
}

test('a sound home has nothing to complain about, within five seconds', async () => {
  const startedMs = performance.now()
  const find = await diagnose()
  expect(performance.now() - startedMs).toBeLessThan(5_000)
  for (const name of [
    'node version',
    'configuration',
    'home',
    'disk',
    'memory',
    'engine',
    'processor',
    'model files',
  ]) {
    expect(find(name), name).toMatchObject({ status: 'ok', fix: null })
  }
})

test('an old Node', async () => {
  const found = (await diagnose({ nodeVersion: '20.11.0' }))('node version')
  expect(found.status).toBe('fail')
  expect(found.fix).toContain('nodejs.org')
})

test('a configuration that is no JSON, and one with a wrong field', async () => {
  await writeFile(home.configFile, '{ "version": 1, ')
  const broken = (await diagnose())('configuration')
  expect(broken).toMatchObject({ status: 'fail' })
  expect(broken.finding).toContain('not valid JSON')
  expect(broken.fix).toContain('llm-node setup')
  await writeFile(home.configFile, JSON.stringify({ network: { name: 'Not Allowed' } }))
  const wrong = (await diagnose())('configuration')
  expect(wrong.finding).toContain('network.name')
  expect(wrong.status).toBe('fail')
})

test('a home in which a file lies where a folder should be', async () => {
  await rm(home.dataFolder, { recursive: true, force: true })
  await writeFile(home.dataFolder, 'not a folder')
  const found = (await diagnose())('home')
  expect(found).toMatchObject({ status: 'fail' })
  expect(found.fix).toContain('--home DIR')
})

test('keys that others can read', async () => {
  await mkdir(home.keysFolder, { recursive: true })
  const key = join(home.keysFolder, 'address.json')
  await writeFile(key, '{}')
  await chmod(key, 0o644)
  expect((await diagnose())('keys')).toMatchObject({ status: 'fail', fix: `Take that away with: chmod 600 ${key}` })
  await chmod(key, 0o600)
  expect((await diagnose())('keys')).toMatchObject({ status: 'ok' })
})

test('a full disk', async () => {
  const found = (await diagnose({ detect: async () => ({ ...machine, disk: { totalBytes: GB, freeBytes: 1e6 } }) }))(
    'disk',
  )
  expect(found).toMatchObject({ status: 'fail' })
  expect(found.fix).toContain('llm-node models rm')
})

test('a control group that is too small, and memory that others use', async () => {
  const small = { totalBytes: 0.2 * GB, freeBytes: 0.1 * GB, limitedBy: 'cgroup' } as const
  const limited = (await diagnose({ detect: async () => ({ ...machine, memory: small }) }))('memory')
  expect(limited).toMatchObject({ status: 'fail' })
  expect(limited.finding).toContain('limit of its control group')
  expect(limited.fix).toContain('llm-node plan')
  const busy = { ...machine.memory, freeBytes: 0.1 * GB }
  const used = (await diagnose({ detect: async () => ({ ...machine, memory: busy }) }))('memory')
  expect(used).toMatchObject({ status: 'warn' })
  expect(used.fix).toContain('Close other programs')
})

test('an engine that cannot be loaded', async () => {
  await configure({ engine: { library: '/nowhere/libonnxruntime.so' } })
  const found = (await diagnose())('engine')
  expect(found).toMatchObject({ status: 'fail' })
  expect(found.fix).toContain('LLM_NODE_ORT_LIB')
})

test('a processor that is slow with the recipe of a model', async () => {
  const cpu = { ...machine.cpu, features: new Set(['avx2']) }
  const found = (await diagnose({ detect: async () => ({ ...machine, cpu }) }))('processor')
  expect(found).toMatchObject({ status: 'warn', fix: 'Fetch it again in q4: llm-node setup --recipe q4' })
})

test('one flipped byte in a layer, and a layer that is gone', async () => {
  const layer = join(home.modelsFolder, 'demo-qwen3-i8', 'layer-00001.i8-1.safetensors')
  const file = await open(layer, 'r+')
  const { size } = await file.stat()
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, size - 5)
  await file.write(Uint8Array.of((byte[0] ?? 0) ^ 1), 0, 1, size - 5)
  await file.close()
  const flipped = (await diagnose())('model files')
  expect(flipped).toMatchObject({ status: 'fail' })
  expect(flipped.finding).toContain('layer-00001.i8-1.safetensors is damaged')
  expect(flipped.fix).toContain('llm-node models verify --repair demo-qwen3')
  await rm(layer)
  const gone = (await diagnose())('model files')
  expect(gone).toMatchObject({ status: 'fail', fix: flipped.fix })
})

test('a port that is taken', async () => {
  const port = await usePort(true)
  await configure({ network: { host: '127.0.0.1', port } })
  const found = (await diagnose())('port')
  expect(found).toMatchObject({ status: 'fail' })
  expect(found.fix).toContain('llm-node config set network.port')
})

test('a network without multicast', async () => {
  await configure({ network: { mdns: true } })
  const multicast = async () => {
    throw new Error('ENETUNREACH')
  }
  const found = (await diagnose({ multicast }))('local network')
  expect(found).toMatchObject({ status: 'warn' })
  expect(found.fix).toContain('5353')
})

test('bootstrap addresses of which none, or only one, answers', async () => {
  const [dead, live] = [await usePort(false), await usePort(true)]
  const address = (port: number) =>
    `/ip4/127.0.0.1/tcp/${port}/p2p/12D3KooWCUq3kkJXnrPBKXKtYmaqLTcRnMUZhKtzS8m6ZV4cn6pB`
  await configure({ network: { bootstrap: [address(dead)] } })
  const none = (await diagnose())('bootstrap')
  expect(none).toMatchObject({ status: 'fail' })
  expect(none.fix).toContain('llm-node config set network.bootstrap')
  await configure({ network: { bootstrap: [address(dead), address(live)] } })
  expect((await diagnose())('bootstrap')).toMatchObject({ status: 'warn' })
})

test('a clock that is a day off, by a server and by what this node has seen', async () => {
  const day = 86_400_000
  const config = await loadConfig(home, { env: {} })
  const [model] = config.models
  await saveConfig(home, {
    ...config,
    models: model === undefined ? [] : [{ ...model, source: 'http://mirror.test/' }],
  })
  const answer = (dateMs: number) => async () =>
    new Response(null, { headers: { date: new Date(dateMs).toUTCString() } })
  const behind = (await diagnose({ fetch: answer(Date.now() + day) }))('clock')
  expect(behind).toMatchObject({ status: 'fail' })
  expect(behind.finding).toContain('1440 min behind')
  expect(behind.fix).toContain('set-ntp')
  expect((await diagnose({ fetch: answer(Date.now()) }))('clock')).toMatchObject({ status: 'ok' })
  await mkdir(home.dataFolder, { recursive: true })
  await writeFile(join(home.dataFolder, 'advert-sequence.json'), JSON.stringify({ last: Date.now() + day }))
  expect((await diagnose({ fetch: answer(Date.now()) }))('clock')).toMatchObject({ status: 'fail' })
})

test('a node that ended without stopping', async () => {
  await pretendNode({}, 2 ** 22 + 1)
  const found = (await diagnose())('node')
  expect(found).toMatchObject({ status: 'warn' })
  expect(found.fix).toContain('llm-node start')
})

test('a node without peers, and layers that nobody holds', async () => {
  const model = { name: 'demo', modelId: '00', gaps: [{ start: 4, end: 8 }], complete: false }
  await pretendNode({ '/api/peers': { peers: [] }, '/api/coverage': { models: [model] } })
  const find = await diagnose()
  expect(find('peers')).toMatchObject({ status: 'warn' })
  expect(find('peers').fix).toContain('--bootstrap')
  expect(find('coverage')).toMatchObject({ status: 'warn', fix: 'You could hold them: llm-node setup --layers 4-7' })
})
