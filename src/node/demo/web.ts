import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import type { DemoControl } from '../../api/demo.ts'
import type { DemoBody } from '../../api/demo-schema.ts'
import { LlmNodeError, toLlmNodeError } from '../../base/errors.ts'
import { createLogger } from '../../base/logger.ts'
import { createFileServer, type FileServer } from '../../shard/file-server.ts'
import { locateHome } from '../home.ts'
import type { LlmNode } from '../node.ts'
import { ensurePages } from '../page-files.ts'
import { pagesUrl } from '../run-file.ts'
import { serveHttp } from '../serve-http.ts'
import { answerOf, type CliProcess, startCli } from './processes.ts'
import { demoModel, demoSpans, setupArguments, startArguments, startEntry } from './run.ts'

export interface DemoWebOptions {
  readonly prompt: string
  readonly recipe: string
  readonly signal: AbortSignal
  /** The address of the pages, with the token. */
  readonly onReady: (url: string) => void
}

type NodeBody = DemoBody['nodes'][number]

/** One node of the demo: what the page shows of it, and its process once it runs. */
interface DemoPart {
  body: NodeBody
  process?: CliProcess
}

/** Three that hold the model together, and as many that hold the same once more: any one may be killed. */
const parts = [...demoSpans.map(named('node')), ...demoSpans.map(named('stand-in'))]
/** Nobody looked for that long: it begins all the same. */
const BEGIN_MS = 10_000

function named(kind: string) {
  return (layers: string, index: number) => ({ name: `${kind} ${index + 1}`, layers })
}

/** Runs the demo behind its pages until `signal` fires; everything is in folders and processes that are gone then. */
export async function runDemoWeb({ prompt, recipe, signal, onReady }: DemoWebOptions): Promise<void> {
  await ensurePages()
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-demo-'))
  const files = await createFileServer({ root: dirname(demoModel) })
  // The last part of the address is what people see as the model's name.
  const url = new URL(basename(demoModel), files.url).href
  let entry: LlmNode | undefined
  let show: DemoShow | undefined
  try {
    const home = join(folder, 'entry')
    await answerOf(
      startCli([...setupArguments({ home, url, recipe, name: 'entry' }), '--layers', 'none', '--ends'], signal),
    )
    entry = await startEntry(home)
    show = new DemoShow({ folder, files, url, recipe, prompt, signal }, entry)
    const token = randomBytes(24).toString('hex')
    const server = await serveHttp(
      { home: locateHome(home, {}), config: { ...entry.config.api, port: 0 }, token },
      { node: entry, logger: createLogger({ level: 'error' }), demo: show },
    )
    onReady(pagesUrl({ apiUrl: server.url, token }))
    try {
      await ended(signal)
    } finally {
      server.close()
    }
  } finally {
    await Promise.all([entry?.stop(), show?.stop()])
    await files.close()
    await rm(folder, { recursive: true, force: true })
  }
}

interface ShowOptions extends Omit<DemoWebOptions, 'onReady'> {
  readonly folder: string
  readonly files: FileServer
  readonly url: string
}

/** What happens on the page, one thing after the other, so that it can be followed. */
class DemoShow implements DemoControl {
  readonly #options: ShowOptions
  readonly #entry: LlmNode
  readonly #parts: readonly DemoPart[]
  #steps: readonly string[] = ['The entry runs. It holds only the ends of the model, no layer.']
  #running: Promise<void> | undefined

  constructor(options: ShowOptions, entry: LlmNode) {
    this.#options = options
    this.#entry = entry
    const fresh = { pid: 0, address: null, state: 'fetching' as const, bytesDownloaded: 0 }
    this.#parts = parts.map((part) => ({ body: { ...part, ...fresh } }))
    const timer = setTimeout(() => this.#begin(), BEGIN_MS)
    options.signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  }

  state(): DemoBody {
    this.#begin()
    return this.#body()
  }

  async kill(name: string): Promise<void> {
    const part = this.#find(name, 'running')
    part.process?.kill()
    await part.process?.exited
  }

  async revive(name: string): Promise<void> {
    await this.#start(this.#find(name, 'killed'))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#parts.map(({ process }) => process?.stop()))
    await this.#running
  }

  #begin(): void {
    if (this.#options.signal.aborted) return
    this.#running ??= this.#build().catch((thrown: unknown) => {
      if (!this.#options.signal.aborted) this.#say(`It did not work: ${toLlmNodeError(thrown).message}`)
    })
  }

  /** Two download at a time; each starts when its turn has come, so that the map fills from the left. */
  async #build(): Promise<void> {
    const fetched: Promise<void>[] = []
    for (const [index, part] of this.#parts.entries()) {
      fetched.push((fetched[index - 2] ?? Promise.resolve()).then(() => this.#fetch(part)))
    }
    for (const promise of fetched) promise.catch(() => {})
    for (const [index, part] of this.#parts.entries()) {
      await fetched[index]
      await this.#start(part)
      this.#say(`${part.body.name} has joined with layers ${part.body.layers}.`)
    }
    this.#say('Every layer is held twice: kill any one node, and the answer goes on.')
  }

  async #fetch(part: DemoPart): Promise<void> {
    const { files, url, recipe, signal } = this.#options
    const { name, layers } = part.body
    const setup = setupArguments({ home: this.#home(name), url, recipe, name })
    await answerOf(startCli([...setup, '--layers', layers, '--no-ends'], signal))
    const bytesDownloaded = files.stats().clients[name]?.totalBytes ?? 0
    this.#change(part, { bytesDownloaded, state: 'starting' })
  }

  async #start(part: DemoPart): Promise<void> {
    this.#change(part, { state: 'starting' })
    const process = startCli(startArguments(this.#home(part.body.name), this.#entry), this.#options.signal)
    part.process = process
    void process.exited.then(() => {
      if (this.#options.signal.aborted) return
      this.#change(part, { state: 'killed', pid: 0 })
      this.#say(`${part.body.name} was killed.`)
    })
    const { address } = await process.firstLine
    this.#change(part, { state: 'running', pid: process.pid, address: String(address) })
  }

  #home(name: string): string {
    return join(this.#options.folder, name.replace(' ', '-'))
  }

  #find(name: string, state: NodeBody['state']): DemoPart {
    const part = this.#parts.find(({ body }) => body.name === name && body.state === state)
    if (part === undefined) throw new LlmNodeError('BAD_INPUT', `No ${state} node is called "${name.slice(0, 64)}".`)
    return part
  }

  #body(): DemoBody {
    const nodes = this.#parts.map(({ body }) => body)
    const ready = demoSpans.every((layers) => nodes.some((node) => node.layers === layers && node.state === 'running'))
    const model = this.#entry.inference.models()[0]?.name ?? ''
    return { steps: this.#steps, ready, model, prompt: this.#options.prompt, nodes }
  }

  #say(step: string): void {
    this.#steps = [...this.#steps, step].slice(-50)
    this.#tell()
  }

  #change(part: DemoPart, change: Partial<NodeBody>): void {
    part.body = { ...part.body, ...change }
    this.#tell()
  }

  #tell(): void {
    this.#entry.events.publish({ type: 'demo', data: this.#body() })
  }
}

function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
