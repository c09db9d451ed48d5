import { once } from 'node:events'
import { copyFile, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createFileServer } from '../../src/shard/file-server.ts'
import { createFaultServer } from '../helpers/fault-server.ts'
import { type CliResult, createSandbox, demoModel, runCli, runJson, type Sandbox, spawnCli, startNode } from './cli.ts'

let sandbox: Sandbox
/** Holds layers 0-5 and the ends; no test changes it. */
let home: string
let breaking: HttpServer | undefined
/** What takes its time to fail goes on beside the other tests. */
let slow: { readonly broken: Promise<CliResult>; readonly gap: Promise<CliResult> }

const local = ['--no-mdns', '--host', '127.0.0.1', '--port', '0', '--threads', '1']

beforeAll(async () => {
  sandbox = await createSandbox()
  home = sandbox.home('held')
  await runJson(['setup', '--home', home, '--model', demoModel, '--recipe', 'f32', '--layers', '0-5'])
  breaking = createBreakingServer().listen(0, '127.0.0.1')
  await once(breaking, 'listening')
  const address = breaking.address() as AddressInfo
  slow = {
    broken: runCli([...setup('broken', `http://127.0.0.1:${address.port}/`, '--layers', '0-3'), '--json']),
    gap: runCli(['ask', 'hi', '--home', home, ...local, '--json']),
  }
})

afterAll(async () => {
  await sandbox?.close()
  breaking?.closeAllConnections()
  breaking?.close()
})

/** Serves the demo model, but ends every connection that asks for weights. */
function createBreakingServer(): HttpServer {
  return createHttpServer(async (request, response) => {
    const name = basename(request.url ?? '')
    if (name.endsWith('.safetensors')) return response.destroy()
    const bytes = await readFile(join(demoModel, name)).catch(() => undefined)
    return response.writeHead(bytes === undefined ? 404 : 200).end(bytes)
  })
}

const progressLines = /^(fetching: .*\n)*/

interface Failure {
  readonly code: string
  readonly exitCode: number
  readonly says: RegExp
  /** What comes before the error on stderr. */
  readonly before?: RegExp
}

/** The command fails with one line, at most one more with what to do, and says the same as one object on stdout. */
async function expectFailure(args: readonly string[], failure: Failure, env: NodeJS.ProcessEnv = {}): Promise<void> {
  checkFailure(await runCli([...args, '--json'], { env }), failure)
}

function checkFailure({ code: exitCode, stdout, stderr }: CliResult, failure: Failure): void {
  const { code, says, before = /^/ } = failure
  const lines = stderr.replace(before, '').split('\n')
  expect(lines[0]).toMatch(/^llm-node: .+[.?] \([A-Z_]+\)$/)
  expect(lines[0]).toMatch(says)
  expect(lines[0]).toContain(`(${code})`)
  expect(lines.slice(1).join('\n')).toMatch(/^( {2}\S.*\n)?$/)
  expect(exitCode).toBe(failure.exitCode)

  expect(stdout.split('\n')).toHaveLength(2)
  const { schema, error, ...rest } = JSON.parse(stdout)
  expect(schema).toMatch(/^llm-node\/[a-z]+\/1$/)
  const hint = lines[1] === undefined || lines[1] === '' ? null : lines[1].trim()
  expect({ error, rest }).toEqual({ error: { code, message: expect.stringMatching(says), hint }, rest: {} })
}

/** A server that holds a port of 127.0.0.1. */
async function occupyPort(): Promise<{ port: number; server: Server }> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { port: (server.address() as AddressInfo).port, server }
}

/** A copy of the demo model, for a test to damage. */
async function copyModel(name: string): Promise<string> {
  const folder = await sandbox.folder(`source-${name}`)
  for (const file of await readdir(demoModel)) {
    if (!file.endsWith('train')) await copyFile(join(demoModel, file), join(folder, file))
  }
  return folder
}

const setup = (name: string, model: string, ...what: string[]) => {
  return ['setup', '--home', sandbox.home(name), '--model', model, '--recipe', 'f32', ...what]
}

test.for([
  ['no verb', [], /Say what to do/],
  ['an unknown verb', ['statsu'], /no verb "statsu"\. Did you mean status\?/],
  ['an unknown flag', ['status', '--frob'], /Unknown argument: frob/],
  ['a missing word', ['ping'], /Something is missing/],
  ['no question', ['ask'], /nothing to ask/],
  ['a value that a flag does not take', ['setup', '--recipe', 'f64'], /recipe.*"f64".*"f32"/],
  ['layers that are no range', ['setup', '--layers', '7-4'], /"7-4" is not a range/],
  ['layers that the model does not have', ['setup', '--layers', '10-12'], /has 12 layers; 10-12 is not among/],
  ['nothing to hold', ['setup', '--layers', 'none', '--no-ends'], /nothing to hold/],
  ['a number out of range', ['ask', 'hi', '--max-tokens', '0'], /maxTokens/],
  ['a number that is none', ['ask', 'hi', '--temperature', 'warm'], /temperature/],
  ['an empty question', ['ask', ' '], /nothing to ask/],
  ['no model name', ['setup', '--model', 'a/b/c', '--layers', '0-3'], /"a\/b\/c" does not name a model/],
] as const)('wrong input: %s', async ([, args, says]) => {
  const words = args.length === 0 ? [] : [...args, '--home', sandbox.home('input')]
  await expectFailure(words, { code: 'BAD_INPUT', exitCode: 2, says })
})

test('without --json nothing of a failure is on stdout', async () => {
  const stderr = expect.stringMatching(/^llm-node: .+ \(BAD_ADDRESS\)\n {2}\S.*\n$/)
  expect(await runCli(['id', 'abc.llm'])).toEqual({ code: 2, stdout: '', stderr })
})

test.for([
  ['too short', 'abc.llm', /3 characters before \.llm instead of 56/],
  ['not .llm', 'example.com', /does not end in \.llm/],
  ['a typing error', `${'a'.repeat(55)}q.llm`, /\.llm address/],
  ['a character that none has', `${'1'.repeat(56)}.llm`, /\.llm address/],
] as const)('a bad address: %s', async ([, address, says]) => {
  await expectFailure(['id', address], { code: 'BAD_ADDRESS', exitCode: 2, says })
})

test('an unknown model: a folder without one, a server without one', async () => {
  const says = /has no config\.json/
  const empty = await sandbox.folder('empty')
  const server = await createFileServer({ root: empty })
  await expectFailure(setup('none', empty, '--layers', 'all'), { code: 'MODEL_NOT_FOUND', exitCode: 4, says })
  await expectFailure(setup('none', sandbox.home('nowhere'), '--layers', '0-3'), {
    code: 'MODEL_NOT_FOUND',
    exitCode: 4,
    says,
  })
  await expectFailure(setup('none', server.url, '--layers', 'all'), { code: 'MODEL_NOT_FOUND', exitCode: 4, says })
  await expectFailure(setup('none', server.url, '--layers', '0-3'), { code: 'MODEL_NOT_FOUND', exitCode: 4, says })
  await server.close()
})

test('a server that wants an account', async () => {
  const server = await createFaultServer(demoModel, { fault: () => ({ status: 401 }) })
  const says = /The source refuses config\.json \(401\)/
  await expectFailure(setup('none', server.url, '--layers', '0-3'), { code: 'DOWNLOAD_FAILED', exitCode: 4, says })
})

test('a GPU that is demanded where there is none: before anything is fetched', async () => {
  const says = /CUDA cannot be used: .+ is not beside .+\./
  const failure = { code: 'ENGINE_UNAVAILABLE', exitCode: 3, says }
  const words = setup('gpu', demoModel, '--layers', 'all', '--provider', 'cuda')
  await expectFailure(words, failure)
  expect(await readdir(sandbox.home('gpu')).catch(() => [])).not.toContain('models')
  await expectFailure(['ask', 'hi', '--solo', '--home', home], failure, { LLM_NODE_PROVIDER: 'cuda' })
})

test('an answer that the model cannot hold: at once, not after looking for peers', async () => {
  const says = /Prompt and answer would take \d+ tokens; demo-qwen3 holds 2048/
  const words = ['ask', 'hi', '--home', home, ...local, '--max-tokens', '2048']
  // "Looking for peers" before it would be a failure here.
  await expectFailure(words, { code: 'CONTEXT_TOO_LONG', exitCode: 2, says })
})

test('ports in use, one home twice, and what a node that runs alone cannot do', async () => {
  const { port, server } = await occupyPort()
  const inUse = { code: 'PORT_IN_USE', exitCode: 3, says: new RegExp(`${port}\\b`) }
  const start = ['start', '--home', home, '--no-mdns', '--host', '127.0.0.1', '--threads', '1']
  await expectFailure([...start, '--port', `${port}`, '--api-port', '0'], inUse)
  await expectFailure([...start, '--port', '0', '--api-port', `${port}`], inUse)
  server.close()

  const node = sandbox.track(await startNode(home, [...local, '--api-port', '0']))
  const twice = { code: 'HOME_IN_USE', exitCode: 3, says: new RegExp(`process ${node.pid}\\b`) }
  await expectFailure([...start, '--port', '0', '--api-port', '0'], twice)
  const gap = { code: 'COVERAGE_GAP', exitCode: 5, says: /^.*Layers 6-11 of demo-qwen3 are held by nobody\./ }
  await expectFailure(['ask', 'hi', '--home', home], gap)
  const alone = { code: 'NOT_SET_UP', exitCode: 3, says: /does not hold all 12 layers/ }
  await expectFailure(['ask', 'hi', '--home', home, '--solo'], alone)
  const other = { code: 'MODEL_NOT_FOUND', exitCode: 4, says: /does not know the model "other"/ }
  await expectFailure(['ask', 'hi', '--home', home, '--model', 'other'], other)
  const long = { code: 'CONTEXT_TOO_LONG', exitCode: 2, says: /holds 2048/ }
  await expectFailure(['ask', 'hi', '--home', home, '--max-tokens', '5000'], long)

  node.kill('SIGKILL')
  await node.ended
  // What a killed node leaves behind stands in nobody's way.
  await expectFailure(['status', '--home', home], { code: 'NOT_RUNNING', exitCode: 3, says: /No node runs/ })
})

test('addresses that nobody can listen on or meet at', async () => {
  const start = ['start', '--home', home, '--no-mdns', '--api-port', '0', '--threads', '1', '--port', '0']
  const host = { code: 'BAD_INPUT', exitCode: 2, says: /"nonsense" is no IP address/ }
  await expectFailure([...start, '--host', 'nonsense'], host)
  const foreign = { code: 'BAD_CONFIG', exitCode: 2, says: /cannot listen on \/ip4\/192\.0\.2\.1/ }
  await expectFailure([...start, '--host', '192.0.2.1'], foreign)
  const meet = { code: 'BAD_INPUT', exitCode: 2, says: /"garbage" is no multiaddr/ }
  await expectFailure([...start, '--host', '127.0.0.1', '--bootstrap', 'garbage'], meet)
})

test('a home that is empty, and one that cannot be used', async () => {
  const empty = sandbox.home('unused')
  const unset = { code: 'NOT_SET_UP', exitCode: 3, says: /no model yet/ }
  await expectFailure(['start', '--home', empty], unset)
  await expectFailure(['ask', 'hi', '--home', empty], { ...unset, says: /does not hold the ends/ })
  await expectFailure(['ask', 'hi', '--home', empty, '--solo'], { ...unset, says: /does not hold the ends/ })
  await expectFailure(['status', '--home', empty], { code: 'NOT_RUNNING', exitCode: 3, says: /No node runs/ })
  const file = sandbox.home('file')
  await writeFile(file, '')
  const unusable = (folder: string) => {
    return { code: 'HOME_UNUSABLE', exitCode: 3, says: new RegExp(`${folder}/\\S+ cannot be read`) }
  }
  await expectFailure(['setup', '--home', file, '--model', demoModel, '--layers', 'all'], unusable(file))
  await expectFailure(['start', '--home', join(file, 'below')], unusable(join(file, 'below')))
  await expectFailure(['id', '--home', file], unusable(file))
})

test.for([
  ['no JSON', '{', /config\.json is not valid JSON/],
  ['a wrong value', '{"network":{"port":"many"}}', /network\.port/],
  ['an unknown field', '{"netwrk":{}}', /netwrk/],
  ['a newer version', '{"version":2}', /has version 2; this program knows 1/],
  ['not an object', '[]', /not an object/],
] as const)('config.json: %s', async ([name, text, says]) => {
  const folder = await sandbox.folder(name.replaceAll(' ', '-'))
  await writeFile(join(folder, 'config.json'), text)
  await expectFailure(['start', '--home', folder], { code: 'BAD_CONFIG', exitCode: 2, says })
})

test('settings from the environment are checked like those of the file', async () => {
  const args = ['start', '--home', sandbox.home('unused')]
  const failure = { code: 'BAD_CONFIG', exitCode: 2, says: /engine\.threads/ }
  await expectFailure(args, failure, { LLM_NODE_THREADS: '0' })
})

test('a model that has become another one on the server is not mixed with what is held', async () => {
  const model = await copyModel('changing')
  const server = await createFileServer({ root: model })
  await runJson(setup('changed', server.url, '--layers', '0-3', '--no-ends'))
  const config = await readFile(join(model, 'config.json'), 'utf8')
  await writeFile(join(model, 'config.json'), config.replace('"rope_theta": ', '"rope_theta": 1'))
  const later = new Date(Date.now() + 60_000)
  await utimes(join(model, 'model-00001-of-00002.safetensors'), later, later)
  await expectFailure(setup('changed', server.url, '--layers', '0-5', '--no-ends'), {
    code: 'MODEL_CHANGED',
    exitCode: 4,
    says: /no longer the model/,
    before: progressLines,
  })
  await server.close()
})

test('weights that change while a download is interrupted: only the new ones are used', async () => {
  const model = await copyModel('swapped')
  const file = 'model-00001-of-00002.safetensors'
  const fresh = await readFile(join(model, file))
  for (let at = fresh.length - 2_000_000; at < fresh.length; at += 1_000) fresh[at] = (fresh[at] ?? 0) ^ 1
  let swapped = false
  let arrive = () => {}
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  const server = await createFaultServer(model, {
    fault: (request) => (swapped && request.file === file ? { content: { bytes: fresh, etag: '"fresh"' } } : undefined),
    pieceBytes: 16_384,
    onPiece: async (sentBytes) => {
      if (swapped || sentBytes < 1_000_000) return
      arrive()
      await new Promise(() => {})
    },
  })
  const args = setup('interrupted', server.url, '--layers', '0-5')
  const first = sandbox.track(spawnCli(args))
  await arrived
  first.kill('SIGKILL')
  await first.ended
  swapped = true
  await runJson(args)

  await writeFile(join(model, file), fresh)
  await runJson(setup('straight', model, '--layers', '0-5'))
  const straight = await layerDigests('straight')
  expect(await layerDigests('interrupted')).toEqual(straight)
  expect(await layerDigests('held')).not.toEqual(straight)
})

/** Of the one model that the home of `name` holds. */
async function layerDigests(name: string): Promise<string[]> {
  const models = join(sandbox.home(name), 'models')
  const [folder = ''] = await readdir(models)
  const manifest = JSON.parse(await readFile(join(models, folder, 'manifest.json'), 'utf8'))
  return manifest.layers.map((layer: { digest: string }) => layer.digest)
}

test('weights that are cut off, garbage, or lost on the way', async () => {
  const cut = await copyModel('cut')
  await truncate(join(cut, 'model-00002-of-00002.safetensors'), 1_000_000)
  const corrupt = { code: 'MODEL_CORRUPT', exitCode: 4, says: /model-00002-of-00002\.safetensors/ }
  await expectFailure(setup('cut', cut, '--layers', '8-11'), corrupt)
  const garbage = await copyModel('garbage')
  await writeFile(join(garbage, 'model-00002-of-00002.safetensors'), '<html>Please sign in</html>'.repeat(1_000))
  await expectFailure(setup('garbage', garbage, '--layers', '8-11'), corrupt)
  await writeFile(join(garbage, 'config.json'), '<html>')
  await expectFailure(setup('page', garbage, '--layers', 'all'), { ...corrupt, says: /config\.json/ })
})

test('a held layer that is cut off and cannot be fetched again', async () => {
  const source = await copyModel('gone')
  await runJson(setup('shortened', source, '--layers', '2-3', '--no-ends'))
  await rm(source, { recursive: true })
  const models = join(sandbox.home('shortened'), 'models')
  const [folder = ''] = await readdir(models)
  await truncate(join(models, folder, 'layer-00003.f32-1.safetensors'), 1_000)
  await expectFailure(['start', '--home', sandbox.home('shortened'), ...local, '--api-port', '0'], {
    code: 'MODEL_CORRUPT',
    exitCode: 4,
    says: /layer-00003/,
    before: /^(\{"level".*\n)*/,
  })
})

test('a connection that always breaks off: the download gives up and keeps what has come', async () => {
  checkFailure(await slow.broken, {
    code: 'DOWNLOAD_FAILED',
    exitCode: 4,
    says: /The download does not get on: .+ broke off/,
    before: progressLines,
  })
})

test('a swarm that lacks layers, asked by a node of one answer', async () => {
  checkFailure(await slow.gap, {
    code: 'COVERAGE_GAP',
    exitCode: 5,
    says: /Layers 6-11 of demo-qwen3 are held by nobody/,
    before: /^Looking for peers …\n/,
  })
})
