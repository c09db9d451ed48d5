import { randomBytes } from 'node:crypto'
import { LlmNodeError } from '../base/errors.ts'
import { createLogger } from '../base/logger.ts'
import { formatSpan } from '../base/span.ts'
import { loadConfig } from './home.ts'
import { makeInvite } from './joining.ts'
import { createNode, type LlmNode, type NodeOptions } from './node.ts'
import { readRunFile, removeRunFile, writeRunFile } from './run-file.ts'
import { type HttpServer, serveHttp } from './serve-http.ts'
import { repairModels } from './sound-models.ts'
import { surviveStrayFaults } from './stray-faults.ts'

/** What `start` tells when the node is ready. */
export interface ReadyState {
  readonly pid: number
  readonly address: string
  readonly listening: readonly string[]
  readonly apiUrl: string
  /** "demo-qwen3 4-7", one for each model of which layers are served. */
  readonly serving: readonly string[]
  /** For a friend to join; null in a private network, whose key it would hold: `invite` shows it. */
  readonly invite: string | null
}

/**
 * Runs the node of a home until `signal` fires or `stop` is called through its API. Throws HOME_IN_USE, NOT_SET_UP,
 * PORT_IN_USE and what the node's parts throw. With `verify`, damaged model files are found and fetched again first.
 */
export async function serve(
  options: NodeOptions,
  run: { signal: AbortSignal; verify: boolean; onReady(state: ReadyState): void },
): Promise<void> {
  const { home } = options
  const running = await readRunFile(home)
  if (running !== undefined) {
    throw new LlmNodeError('HOME_IN_USE', `A node already runs on this home (process ${running.pid}).`, {
      hint: 'Stop it with llm-node stop, or give this one another folder with --home DIR.',
    })
  }
  const config = await loadConfig(home, options)
  if (config.models.length === 0) {
    throw new LlmNodeError('NOT_SET_UP', 'This home holds no model yet.', { hint: 'Fetch one: llm-node setup' })
  }
  const stopping = new AbortController()
  const logger = createLogger({ level: config.log.level })
  if (run.verify) await repairModels(home, config, { signal: run.signal, logger })
  const forget = surviveStrayFaults(logger)
  const node = await createNode(options, { logger, onStop: () => stopping.abort() })
  const token = randomBytes(24).toString('hex')
  let server: HttpServer | undefined
  try {
    server = await serveHttp({ home, config: config.api, token }, { node, logger })
    await node.start()
    const state = { pid: process.pid, apiUrl: server.url, address: node.address }
    await writeRunFile(home, { ...state, token })
    run.onReady({ ...state, listening: node.listening(), serving: servingTexts(node), invite: inviteFor(node) })
    await aborted(AbortSignal.any([run.signal, stopping.signal]))
    await node.leave(NEVER)
  } finally {
    await node.stop()
    server?.close()
    await removeRunFile(home)
    forget()
  }
}

/** A second Ctrl-C ends the process at once. */
const NEVER = new AbortController().signal

function inviteFor({ network, config, ...node }: LlmNode): string | null {
  if (network.preSharedKey !== undefined) return null
  return makeInvite({ network, config, listening: node.listening() }).line
}

function servingTexts(node: LlmNode): string[] {
  return node.control
    .status()
    .models.flatMap(({ name, layers }) => (layers === null ? [] : [`${name} ${formatSpan(layers)}`]))
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
