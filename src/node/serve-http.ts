import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { createApi } from '../api/app.ts'
import type { DemoControl } from '../api/demo.ts'
import { systemClock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { apiLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import { createKeyFinder, listApiKeys } from './api-keys.ts'
import type { Home } from './home.ts'
import { createHomeControl } from './home-control.ts'
import { isFree } from './listen.ts'
import type { LlmNode } from './node.ts'
import { createPages } from './page-files.ts'

export interface HttpServerOptions {
  readonly home: Home
  readonly config: Config['api']
  /** For the admin part. */
  readonly token: string
  /** Generations at once. */
  readonly maxUnderWay?: number
  /** Until all headers, and the whole request, have come. */
  readonly timeouts?: { readonly headersMs: number; readonly requestMs: number }
}

/** The HTTP side of a running node. */
export interface HttpServer {
  /** "http://127.0.0.1:5560", as this machine reaches it. */
  readonly url: string
  /** Cuts every connection that is open now. */
  dropConnections(): void
  close(): void
}

const DEFAULT_API_PORT = 5560

/** Listens. Throws PORT_IN_USE, and BAD_CONFIG when others could come in and no key is there to tell who may. */
export async function serveHttp(
  options: HttpServerOptions,
  deps: { node: Pick<LlmNode, 'control' | 'inference' | 'events'>; logger: Logger; demo?: DemoControl },
): Promise<HttpServer> {
  const { home, config, token, timeouts = apiLimits } = options
  const loopback = isLoopback(config.host)
  if (!loopback && (await listApiKeys(home)).length === 0) {
    throw new LlmNodeError('BAD_CONFIG', `The API on ${config.host} would be open to others, and there is no key.`, {
      hint: 'Make one first: llm-node keys add NAME',
      meta: { field: 'api.host' },
    })
  }
  const limit = options.maxUnderWay === undefined ? {} : { maxUnderWay: options.maxUnderWay }
  const app = createApi(
    { token, loopback, requireKey: config.requireKey || !loopback, allowedHosts: config.allowedHosts, ...limit },
    {
      ...deps.node,
      keys: createKeyFinder(home),
      home: createHomeControl(home),
      pages: createPages(),
      demo: deps.demo,
      clock: systemClock,
      logger: deps.logger,
    },
  )
  return listenHttp(app, config, timeouts)
}

/** Throws PORT_IN_USE. */
export async function listenHttp(
  app: Pick<Parameters<typeof createAdaptorServer>[0], 'fetch'>,
  config: Pick<Config['api'], 'host' | 'port'>,
  timeouts: { readonly headersMs: number; readonly requestMs: number } = apiLimits,
): Promise<HttpServer> {
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      maxHeaderSize: apiLimits.headerBytes,
      headersTimeout: timeouts.headersMs,
      requestTimeout: timeouts.requestMs,
      connectionsCheckingInterval: Math.min(1_000, timeouts.headersMs),
    },
  }) as Server
  server.maxHeadersCount = apiLimits.headerLines
  server.maxConnections = apiLimits.connections
  const port = await listen(server, config)
  const name = config.host === '0.0.0.0' ? '127.0.0.1' : config.host === '::' ? '::1' : config.host
  return {
    url: `http://${name.includes(':') ? `[${name}]` : name}:${port}`,
    dropConnections: () => server.closeAllConnections(),
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

async function listen(server: Server, { host, port }: Pick<Config['api'], 'host' | 'port'>): Promise<number> {
  const chosen = port ?? ((await isFree(host, DEFAULT_API_PORT)) ? DEFAULT_API_PORT : 0)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EADDRINUSE') return reject(cause)
      const hint = 'Give the API another one with --api-port N (0: any free one).'
      reject(new LlmNodeError('PORT_IN_USE', `Port ${chosen} of ${host} is in use.`, { hint, cause }))
    })
    server.listen(chosen, host, resolve)
  })
  return (server.address() as AddressInfo).port
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
