/**
 * The HTTP side against the same generation without it, on the bundled model (1 ms a token) and on 8 layers of
 * Qwen3-0.6B's shape (7 ms a token; the whole model takes three times that), and 64 streaming clients at once on the
 * bundled one: no stream may lose or mix up a token, none may starve, memory stays flat, and what is too much is refused.
 */
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseConfig } from '../src/base/config.ts'
import { silentLogger } from '../src/base/logger.ts'
import { loadConfig, locateHome } from '../src/node/home.ts'
import { createNode } from '../src/node/node.ts'
import { serveHttp } from '../src/node/serve-http.ts'
import { setupModel } from '../src/node/setup.ts'
import type { ClientPlan, ClientRun } from './lib/api-client.process.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { writeRandomModel } from './lib/random-model.ts'

const options = benchOptions()
const SECONDS = options.quick ? 15 : 60
const CLIENTS = 64
const MAX_TOKENS = 400
/** Of one answer under load: many short ones show a leak sooner than few long ones. */
const LOAD_TOKENS = 60
const folder = await mkdtemp(join(tmpdir(), 'llm-node-api-'))
const home = locateHome(folder, {})
const signal = AbortSignal.timeout(600_000)
const model = fileURLToPath(new URL('../models/demo-qwen3', import.meta.url))
const larger = await mkdtemp(join(tmpdir(), 'llm-node-api-model-'))
await writeRandomModel(larger, {
  ...{ nLayers: 8, hiddenSize: 1_024, nHeads: 16, nKvHeads: 8, headDim: 128 },
  ...{ intermediateSize: 3_072, vocabSize: 2_048, maxContext: 2_048 },
})
for (const name of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(model, name), join(larger, name))
const what = { layers: 'all', ends: true, signal } as const
await setupModel(home, parseConfig(undefined), { ...what, model, recipe: 'i8' })
const added = await loadConfig(home, { env: {} })
await setupModel(home, added, { ...what, model: larger, recipe: 'q4' })
const names = { demo: 'demo-qwen3', larger: (await loadConfig(home, { env: {} })).models.at(-1)?.name ?? '' } as const
const network = { name: 'bench-api', mdns: false, host: '127.0.0.1', port: 0 }
const overrides = { network, engine: { threads: 1, kvMiB: 1_024 }, api: { port: 0 } }
const node = await createNode({ home, env: {}, overrides }, { logger: silentLogger })
await node.start()
const server = await serveHttp({ home, config: node.config.api, token: 'x'.repeat(32) }, { node, logger: silentLogger })

async function runClients(plan: Omit<ClientPlan, 'url'>): Promise<ClientRun[]> {
  const script = fileURLToPath(new URL('./lib/api-client.process.ts', import.meta.url))
  const args = [script, JSON.stringify({ url: server.url, ...plan } satisfies ClientPlan)]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 64 * 1_048_576 })
  return JSON.parse(stdout)
}

/** Tokens per second of one answer without HTTP, from its first token to its last. */
async function generateDirectly(model: string, question: string): Promise<number> {
  const call = { model, where: 'local', maxTokens: MAX_TOKENS, stop: [], ignoreEnd: true } as const
  const prompt = { messages: [{ role: 'user', content: question }] }
  let speed = 0
  for await (const event of node.inference.generate(
    { ...call, prompt, sampling: { seed: 0, temperature: 1 } },
    signal,
  )) {
    if (event.type === 'done') speed = event.result.tokensPerSecond ?? 0
  }
  return speed
}

/** The same through a stream of chat completions, read in this process: a client's own work on two cores is not the API's. */
async function generateOverHttp(model: string, question: string): Promise<number> {
  const messages = [{ role: 'user', content: question }]
  const how = { seed: 0, max_tokens: MAX_TOKENS, temperature: 1, ignore_eos: true, stream: true }
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: `${model}@local`, messages, ...how, stream_options: { include_usage: true } }),
  })
  if (response.body === null || !response.ok) throw new Error(`status ${response.status}: ${await response.text()}`)
  const pieces: { readonly ms: number; readonly bytes: Uint8Array }[] = []
  for await (const bytes of response.body) pieces.push({ ms: performance.now(), bytes })
  const events = pieces.flatMap(({ ms, bytes }) => {
    const blocks = new TextDecoder().decode(bytes).split('\n\n')
    return blocks.filter((block) => block.startsWith('data: {')).map((block) => ({ ms, ...JSON.parse(block.slice(6)) }))
  })
  const told = events.filter(({ choices }) => choices[0]?.delta?.content)
  const tokens: number = events.find(({ usage }) => usage != null)?.usage.completion_tokens
  return ((tokens - 1) * 1_000) / ((told.at(-1)?.ms ?? 0) - (told[0]?.ms ?? 0))
}

/** Tokens per second both ways, in turns. */
async function compare(model: string, rounds: number): Promise<{ direct: number; http: number }> {
  const direct: number[] = []
  const overHttp: number[] = []
  for (let round = 0; round < rounds; round++) {
    // Never the same twice: a kept session would be taken up again, with the memory that the answer before has left it.
    direct.push(await generateDirectly(model, `${round}: where does the fox live?`))
    overHttp.push(await generateOverHttp(model, `Tell me, ${round}: where does the fox live?`))
  }
  return { direct: median(direct), http: median(overHttp) }
}

const demo = await compare(names.demo, 9)
const wide = await compare(names.larger, options.quick ? 2 : 5)

const alone = new Map<number, string | undefined>()
for (const run of await runClients({ clients: 8, seconds: 0, maxTokens: LOAD_TOKENS }))
  alone.set(run.seed, run.texts[0])

const rss: number[] = []
const sampling = setInterval(() => rss.push(process.memoryUsage.rss()), 500)
const loading = runClients({ clients: CLIENTS, seconds: SECONDS, maxTokens: LOAD_TOKENS })
await new Promise((resolve) => setTimeout(resolve, 3_000))
const refusals: number[] = []
for (let i = 0; i < 10; i++) {
  const startMs = performance.now()
  const response = await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo-qwen3', prompt: 'x', max_tokens: 1 }),
  })
  await response.arrayBuffer()
  if (response.status === 429) refusals.push(performance.now() - startMs)
}
const runs = await loading
clearInterval(sampling)

const speeds = runs.map((run) => (run.tokens * 1000) / run.ms)
const mixedUp = runs.filter((run) => run.texts.length !== 1 || (alone.get(run.seed) ?? run.texts[0]) !== run.texts[0])
const tokens = runs.reduce((sum, run) => sum + run.tokens, 0)
const figures = {
  directTokensPerSecond: wide.direct,
  httpTokensPerSecond: wide.http,
  httpShare: wide.http / wide.direct,
  directTokensPerSecondDemo: demo.direct,
  httpTokensPerSecondDemo: demo.http,
  httpShareDemo: demo.http / demo.direct,
  clients: CLIENTS,
  tokensPerSecondInAll: tokens / SECONDS,
  mixedUpStreams: mixedUp.length,
  slowestOfMedian: Math.min(...speeds) / median(speeds),
  refusalMs: refusals.length === 0 ? Number.NaN : median(refusals),
  /** The last 5 s against 5 s in the middle: before, the heap and the KV pool are filling. */
  rssGrowth: median(rss.slice(-10)) / median(rss.slice(rss.length / 2 - 5, rss.length / 2 + 5)),
}
for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(24)} ${value.toFixed(3)}`)
reportFigures('api', figures, options)
server.close()
await node.stop()
for (const used of [folder, larger]) await rm(used, { recursive: true, force: true })
