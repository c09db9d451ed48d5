/**
 * The HTTP side against the same generation without it, and 64 streaming clients at once, on the bundled model: no
 * stream may lose or mix up a token, none may starve, memory stays flat, and what is too much is refused at once.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseConfig } from '../src/base/config.ts'
import { silentLogger } from '../src/base/logger.ts'
import { locateHome } from '../src/node/home.ts'
import { createNode } from '../src/node/node.ts'
import { serveHttp } from '../src/node/serve-http.ts'
import { setupModel } from '../src/node/setup.ts'
import type { ClientPlan, ClientRun } from './lib/api-client.process.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'

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
await setupModel(home, parseConfig(undefined), { model, layers: 'all', ends: true, recipe: 'i8', signal })
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
async function generateDirectly(): Promise<number> {
  const call = { model: 'demo-qwen3', where: 'local', maxTokens: MAX_TOKENS, stop: [], ignoreEnd: true } as const
  const prompt = { messages: [{ role: 'user', content: 'Where does the fox live?' }] }
  let speed = 0
  for await (const event of node.inference.generate(
    { ...call, prompt, sampling: { seed: 0, temperature: 1 } },
    signal,
  )) {
    if (event.type === 'done') speed = event.result.tokensPerSecond ?? 0
  }
  return speed
}

const direct: number[] = []
const overHttp: number[] = []
for (let round = 0; round < 9; round++) {
  direct.push(await generateDirectly())
  const [run] = await runClients({ clients: 1, seconds: 0, maxTokens: MAX_TOKENS, chat: true })
  if (run !== undefined) overHttp.push((run.tokens * 1000) / run.ms)
}

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
  directTokensPerSecond: median(direct),
  httpTokensPerSecond: median(overHttp),
  httpShare: median(overHttp) / median(direct),
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
await rm(folder, { recursive: true, force: true })
