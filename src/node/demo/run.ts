import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AskRequest, AskResult, StatusBody } from '../../api/types.ts'
import { LlmNodeError } from '../../base/errors.ts'
import { createLogger } from '../../base/logger.ts'
import { parseSpan, type Span } from '../../base/span.ts'
import { createFileServer, type FileServer } from '../../shard/file-server.ts'
import { connectAdmin } from '../admin-client.ts'
import { locateHome } from '../home.ts'
import { createNode, type LlmNode } from '../node.ts'
import { answerOf, type CliProcess, startCli } from './processes.ts'

export interface DemoNode {
  readonly address: string
  readonly span: Span
  /** Counted by the file server. */
  readonly bytesDownloaded: number
  /** All weights of the model. */
  readonly bytesOfModel: number
  readonly pid: number
  /** Mean compute time of a decode step on this node. */
  readonly msPerToken: number | null
}

export interface DemoResult {
  readonly text: string
  readonly tokens: readonly number[]
  readonly single: { readonly tokens: readonly number[]; readonly tokensPerSecond: number | null }
  readonly pipeline: {
    readonly tokensPerSecond: number | null
    readonly perHopOverheadMs: number | null
    readonly profile: string
  }
  readonly nodes: readonly DemoNode[]
  /** Token ids, and the SHA-256 of the logits' bytes at every step, are the same. */
  readonly identical: boolean
  readonly setupSeconds: number
}

/** What the demo tells while it runs. */
export interface DemoReporter {
  step(text: string): void
  /** A piece of the answer, as it comes. */
  text(piece: string): void
  result(result: DemoResult): void
}

export const demoSpans = ['0-3', '4-7', '8-11'] as const
export const demoModel = fileURLToPath(new URL('../../../models/demo-qwen3', import.meta.url))

/** Everything in folders and processes of its own, which are gone afterwards, however it ends. */
export async function runDemo(
  options: { prompt: string; recipe: string; signal: AbortSignal },
  report: DemoReporter,
): Promise<DemoResult> {
  const startedMs = performance.now()
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-demo-'))
  const server = await createFileServer({ root: demoModel })
  const processes: CliProcess[] = []
  const run: StartProcess = (...args) => {
    const child = startCli(args, options.signal)
    processes.push(child)
    return child
  }
  let entry: LlmNode | undefined
  try {
    report.step(`The model's files are served at ${server.url}; nobody reads them from disk.`)
    const home = (name: string) => join(folder, name)
    await fetchParts(server.url, options.recipe, home, run)
    report.step('Three nodes fetched four layers each, the entry only the two ends, one more process everything.')
    entry = await startEntry(home('entry'))
    const nodes = await startNodes(entry, home, run)
    await entry.waitForCoverage(undefined, { signal: options.signal, onNotice() {} })
    const setupSeconds = (performance.now() - startedMs) / 1000
    report.step(`They found each other through one bootstrap address. Ready after ${setupSeconds.toFixed(1)} s.`)
    report.step(`\n> ${options.prompt}`)
    const request: AskRequest = { prompt: options.prompt, temperature: 0, logitsDigest: true }
    const answer = await askThrough(entry, request, options.signal, report)
    const described = await describeNodes(home, server, nodes)
    report.step('The same question to a fresh process that holds all twelve layers …\n')
    const alone = ['--home', home('single'), '--solo', '--temperature', '0', '--logits-digest', '--json']
    const single = (await answerOf(run('ask', options.prompt, ...alone))) as unknown as AskResult
    const result = compare(answer, single, described, setupSeconds)
    report.result(result)
    return result
  } finally {
    await Promise.all([entry?.stop(), ...processes.map((process) => process.stop())])
    await server.close()
    await rm(folder, { recursive: true, force: true })
  }
}

type StartProcess = (...args: string[]) => CliProcess

/** Five downloads side by side, each by a process of its own, as a user's `setup` would. */
async function fetchParts(
  url: string,
  recipe: string,
  home: (name: string) => string,
  run: StartProcess,
): Promise<void> {
  const fetchPart = (name: string, ...what: string[]) =>
    answerOf(run(...setupArguments({ home: home(name), url, recipe, name }), ...what))
  await Promise.all([
    ...demoSpans.map((span, index) => fetchPart(`node${index + 1}`, '--layers', span, '--no-ends')),
    fetchPart('entry', '--layers', 'none', '--ends'),
    fetchPart('single', '--layers', 'all', '--ends'),
  ])
}

/** The entry runs in this process, asks and serves nothing; the nodes meet through its address. */
export async function startEntry(folder: string): Promise<LlmNode> {
  const network = {
    name: `demo-${randomBytes(6).toString('hex')}`,
    mdns: false,
    bootstrap: [],
    host: '127.0.0.1',
    port: 0,
  }
  const node = await createNode(
    { home: locateHome(folder, {}), env: {}, overrides: { network, engine: { threads: 1 } }, guest: true },
    { logger: createLogger({ level: 'error' }) },
  )
  await node.start()
  return node
}

/** Of `llm-node setup`, without saying what to hold. */
export function setupArguments(part: { home: string; url: string; recipe: string; name: string }): string[] {
  const { home, url, recipe, name } = part
  return ['setup', '--home', home, '--model', url, '--recipe', recipe, '--client', name, '--json']
}

/** Of `llm-node start`, for a node that meets the entry. */
export function startArguments(home: string, entry: LlmNode): string[] {
  const [bootstrap] = entry.listening()
  if (bootstrap === undefined) throw new LlmNodeError('INTERNAL', 'The entry does not listen.')
  return [
    ...['start', '--home', home, '--json', '--tied', '--log-level', 'error'],
    ...['--network', entry.network.name, '--no-mdns', '--bootstrap', bootstrap],
    ...['--host', '127.0.0.1', '--port', '0', '--api-port', '0', '--threads', '1'],
  ]
}

async function startNodes(entry: LlmNode, home: (name: string) => string, run: StartProcess): Promise<CliProcess[]> {
  const nodes = demoSpans.map((_, index) => run(...startArguments(home(`node${index + 1}`), entry)))
  await Promise.all(nodes.map((node) => node.firstLine))
  return nodes
}

async function askThrough(
  entry: LlmNode,
  request: AskRequest,
  signal: AbortSignal,
  report: DemoReporter,
): Promise<AskResult> {
  for await (const event of entry.ask(request, signal)) {
    if (event.type === 'text') report.text(event.text)
    if (event.type === 'done') return event.result
  }
  throw new LlmNodeError('INTERNAL', 'The answer ended without a result.')
}

async function describeNodes(
  home: (name: string) => string,
  server: FileServer,
  nodes: readonly CliProcess[],
): Promise<DemoNode[]> {
  const bytesOfModel = await weightBytes()
  const { clients } = server.stats()
  return Promise.all(
    demoSpans.map(async (span, index) => {
      const name = `node${index + 1}`
      const admin = await connectAdmin(locateHome(home(name), {}))
      const status = await admin.get<StatusBody>('/api/status')
      return {
        address: status.address,
        span: parseSpan(span),
        bytesDownloaded: clients[name]?.totalBytes ?? 0,
        bytesOfModel,
        pid: nodes[index]?.pid ?? 0,
        msPerToken: status.decode.meanMs,
      }
    }),
  )
}

async function weightBytes(): Promise<number> {
  const names = (await readdir(demoModel)).filter((name) => name.endsWith('.safetensors'))
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(demoModel, name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

function compare(answer: AskResult, single: AskResult, nodes: readonly DemoNode[], setupSeconds: number): DemoResult {
  const same = (a: readonly unknown[] = [], b: readonly unknown[] = []) =>
    a.length > 0 && a.length === b.length && a.every((value, i) => value === b[i])
  const stepMs = answer.tokensPerSecond === null ? null : 1000 / answer.tokensPerSecond
  const computeMs = nodes.reduce((sum, node) => sum + (node.msPerToken ?? 0), 0)
  return {
    text: answer.text,
    tokens: answer.tokens,
    single: { tokens: single.tokens, tokensPerSecond: single.tokensPerSecond },
    pipeline: {
      tokensPerSecond: answer.tokensPerSecond,
      perHopOverheadMs: stepMs === null ? null : (stepMs - computeMs) / nodes.length,
      profile: answer.profile,
    },
    nodes,
    identical: same(answer.tokens, single.tokens) && same(answer.logitsSha256, single.logitsSha256),
    setupSeconds,
  }
}
