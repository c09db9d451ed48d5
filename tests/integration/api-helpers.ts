import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseConfig } from '../../src/base/config.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { type Home, locateHome, prepareHome } from '../../src/node/home.ts'
import { createNode, type LlmNode } from '../../src/node/node.ts'
import { serveHttp } from '../../src/node/serve-http.ts'
import { setupModel } from '../../src/node/setup.ts'
import { type Cleanup, temporaryFolder } from './p2p-helpers.ts'

export const adminToken = 'a'.repeat(48)

const demoModel = fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))

export interface ApiNode {
  readonly home: Home
  readonly node: LlmNode
  readonly url: string
  /** Multiaddrs for the bootstrap list of others. */
  readonly listening: readonly string[]
  /** Cuts every connection of a client; new ones are taken. */
  dropConnections(): void
}

export interface ApiNodeOptions {
  readonly layers?: string
  readonly ends?: boolean
  readonly kvMiB?: number
  readonly bootstrap?: readonly string[]
  readonly api?: Readonly<Record<string, unknown>>
  readonly answers?: Readonly<Record<string, unknown>>
  /** Generations at once. */
  readonly maxUnderWay?: number
  readonly timeouts?: { readonly headersMs: number; readonly requestMs: number }
  /** Called before it listens, for keys. */
  readonly prepare?: (home: Home) => Promise<void>
}

/** A whole node with the bundled model and its HTTP side, on free ports of 127.0.0.1. */
export async function startApiNode(cleanup: Cleanup, options: ApiNodeOptions = {}): Promise<ApiNode> {
  const { layers = 'all', ends = true, kvMiB = 64, bootstrap = [], api = {} } = options
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  const signal = AbortSignal.timeout(30_000)
  await prepareHome(home)
  await setupModel(home, parseConfig(undefined), { model: demoModel, layers, ends, recipe: 'i8', signal })
  await options.prepare?.(home)
  const overrides = {
    network: { name: 'api-test', mdns: false, host: '127.0.0.1', port: 0, bootstrap },
    engine: { threads: 1, kvMiB },
    api: { port: 0, ...api },
    ...(options.answers ? { answers: options.answers } : {}),
  }
  const node = await createNode({ home, env: {}, overrides }, { logger: silentLogger })
  cleanup.add(() => node.stop())
  await node.start()
  const server = await serveHttp(
    {
      ...{ home, config: node.config.api, token: adminToken },
      ...(options.timeouts ? { timeouts: options.timeouts } : {}),
      ...(options.maxUnderWay ? { maxUnderWay: options.maxUnderWay } : {}),
    },
    { node, logger: silentLogger },
  )
  cleanup.add(async () => server.close())
  return { home, node, url: server.url, listening: node.listening(), dropConnections: server.dropConnections }
}
