import { randomBytes } from 'node:crypto'
import { createEventLog } from '../api/event-log.ts'
import { createSetupApp } from '../api/setup-app.ts'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Home } from './home.ts'
import { createPages, ensurePages } from './page-files.ts'
import { pagesUrl, readRunFile } from './run-file.ts'
import { serve } from './serve.ts'
import { listenHttp } from './serve-http.ts'
import { createSetupControl } from './setup-control.ts'

export interface SetupWebRun {
  readonly home: Home
  /** As the home and the flags say. */
  readonly config: Config
  readonly signal: AbortSignal
  /** The address of the wizard, with its token. */
  readonly onReady: (url: string) => void
  /** The same of the node. */
  readonly onStarted: (url: string) => void
}

/**
 * Sets a home up through a page: listens on a free port of this machine, and becomes the node when the wizard has come
 * to its end. Resolves when that is stopped. Throws HOME_IN_USE, PAGES_MISSING, and what the node throws.
 */
export async function setupWeb({ home, config, signal, onReady, onStarted }: SetupWebRun): Promise<void> {
  const running = await readRunFile(home)
  if (running !== undefined) {
    throw new LlmNodeError('HOME_IN_USE', `The node of this home runs already (process ${running.pid}).`, {
      hint: 'Its pages: llm-node web. To set it up anew, stop it first: llm-node stop',
    })
  }
  await ensurePages()
  const events = createEventLog({ startedMs: Date.now() })
  const node = Promise.withResolvers<void>()
  const stopping = new AbortController()
  signal.addEventListener('abort', () => stopping.abort(), { once: true })
  const start = () => startNode({ home, signal, onEnd: node.resolve, onStarted })
  const control = await createSetupControl({ home, config, signal: stopping.signal }, { events, start })
  const token = randomBytes(24).toString('hex')
  const app = createSetupApp({ token, loopback: true, allowedHosts: [] }, { control, events, pages: createPages() })
  const server = await listenHttp(app, { host: '127.0.0.1', port: 0 })
  signal.addEventListener('abort', () => node.resolve(), { once: true })
  try {
    onReady(pagesUrl({ apiUrl: server.url, token }))
    await node.promise
  } finally {
    stopping.abort()
    server.close()
  }
}

interface NodeStart {
  readonly home: Home
  readonly signal: AbortSignal
  readonly onEnd: () => void
  readonly onStarted: (url: string) => void
}

/** Resolves when the node is ready. What ends it later ends the command. */
async function startNode({ home, signal, onEnd, onStarted }: NodeStart) {
  const ready = Promise.withResolvers<{ address: string; invite: string | null }>()
  const serving = serve(
    { home, env: process.env },
    { signal, verify: false, onReady: ({ address, invite }) => ready.resolve({ address, invite }) },
  )
  serving.catch((error) => ready.reject(error))
  const { address, invite } = await ready.promise
  serving.finally(onEnd).catch(() => {})
  const run = await readRunFile(home)
  if (run === undefined) throw new LlmNodeError('INTERNAL', 'The node has ended at once.')
  onStarted(pagesUrl(run))
  return { url: pagesUrl(run), address, invite }
}
