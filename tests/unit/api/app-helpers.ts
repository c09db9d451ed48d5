import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { createApi } from '../../../src/api/app.ts'
import { createEventLog } from '../../../src/api/event-log.ts'
import type { GenerationCall, Inference, ModelCard } from '../../../src/api/inference.ts'
import type { PageFile } from '../../../src/api/pages.ts'
import type { NodeControl } from '../../../src/api/types.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { locateHome } from '../../../src/node/home.ts'
import { createHomeControl } from '../../../src/node/home-control.ts'
import type { AskAnswer, AskProgress } from '../../../src/pipeline/ask.ts'

export const card: ModelCard = {
  name: 'demo',
  created: 1_700_000_000,
  modelId: 'ab'.repeat(32),
  recipe: 'i8/1',
  nLayers: 12,
  maxContext: 2048,
  numericsClass: 'cd'.repeat(32),
  local: true,
  complete: true,
}

export const result: AskAnswer = {
  text: 'Hello there',
  tokens: [5, 6],
  cachedTokens: 3,
  promptTokens: 7,
  finishReason: 'stop',
  exact: true,
  hops: [{ span: { start: 0, end: 12 }, address: 'x.llm', ms: 1.5, linkMs: 1, reason: 'fastest of 2' }],
  failovers: 1,
  changedAt: null,
  seenBy: 1,
  audit: null,
  drafted: 0,
  accepted: 0,
  tokensPerSecond: null,
  estimate: { solo: null, split: null },
  model: 'demo',
  profile: 'direct',
}

const route: AskProgress = {
  type: 'route',
  hops: result.hops,
  profile: 'direct',
  exact: true,
  promptTokens: 7,
  thinking: 'none',
}

export const answer: readonly AskProgress[] = [
  route,
  { type: 'text', text: 'Hello' },
  { type: 'text', text: ' there' },
  { type: 'done', result },
]

export interface TestApi {
  /** What the node was asked for. */
  readonly calls: GenerationCall[]
  /** How many generations are open. */
  readonly open: () => number
  request(path: string, init?: RequestInit): Promise<Response>
  post(path: string, body: unknown): Promise<Response>
  chat(fields?: object): Promise<Response>
}

export interface TestApiOptions {
  readonly events?: readonly AskProgress[]
  /** Thrown instead of the event with this number. */
  readonly fail?: { readonly at: number; readonly error: unknown }
  readonly maxUnderWay?: number
  readonly models?: readonly ModelCard[]
}

const html = new TextEncoder().encode('<!doctype html>')
const page: PageFile = { type: 'text/html', bytes: html, zipped: new Uint8Array(gzipSync(html)), immutable: false }

export const token = 't'.repeat(40)

/** The real app on a node whose answers are given. */
export function createTestApi(options: TestApiOptions = {}): TestApi {
  const { events = answer, fail, models = [card] } = options
  const calls: GenerationCall[] = []
  let open = 0
  const inference: Inference = {
    models: () => models,
    async *generate(call) {
      calls.push(call)
      open++
      try {
        for (const [index, event] of events.entries()) {
          if (fail?.at === index) throw fail.error
          yield event
        }
      } finally {
        open--
      }
    },
    embed: async () => ({ vector: Float32Array.of(0.6, -0.8), promptTokens: 3, exact: true, hops: [] }),
  }
  const control = {
    status: () => ({ uptimeS: 1, rssBytes: 2, peers: 3, circuits: 4, kvBytes: 6, decode: { steps: 5, meanMs: 1 } }),
    peers: () => [],
    coverage: () => ({ models: [] }),
    usage: () => ({ models: [] }),
    netcheck: async () => ({ findings: [] }),
    sessions: () => [],
    generations: () => [],
    stopGeneration: () => false,
    ask: () => events,
    pause: async () => ({ paused: null }),
    stop: () => {},
  } as unknown as NodeControl
  let nowMs = 1_750_000_000_000
  const app = createApi(
    {
      token,
      loopback: true,
      requireKey: false,
      allowedHosts: [],
      ...(options.maxUnderWay === undefined ? {} : { maxUnderWay: options.maxUnderWay }),
    },
    {
      control,
      inference,
      keys: { find: async () => undefined },
      home: createHomeControl(locateHome(join(tmpdir(), 'llm-node-no-home'), {})),
      pages: { find: async (path) => (path === '/' ? page : undefined) },
      events: createEventLog({ startedMs: 0 }),
      clock: { nowMs: () => nowMs++, monotonicMs: () => nowMs++ },
      logger: silentLogger,
    },
  )
  const request = async (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers)
    if (!headers.has('host')) headers.set('host', 'localhost:5560')
    return app.request(path, { ...init, headers })
  }
  const post = (path: string, body: unknown) =>
    request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  return {
    calls,
    open: () => open,
    request,
    post,
    chat: (fields = {}) =>
      post('/v1/chat/completions', { model: 'demo', messages: [{ role: 'user', content: 'Hi' }], ...fields }),
  }
}

/** The events of a stream, parsed; [DONE] as it is. */
export async function readEvents(response: Response): Promise<unknown[]> {
  const text = await response.text()
  return text
    .split('\n\n')
    .filter((block) => block !== '')
    .map((block) => {
      const data = block.replace(/^data: /, '')
      return data === '[DONE]' ? data : JSON.parse(data)
    })
}
