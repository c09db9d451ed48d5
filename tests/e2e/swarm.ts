/** A swarm of real processes on loopback: one file server, homes set up from it, nodes that know each other's address. */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { StatusBody } from '../../src/api/types.ts'
import { connectAdmin } from '../../src/node/admin-client.ts'
import { locateHome } from '../../src/node/home.ts'
import { createFileServer } from '../../src/shard/file-server.ts'
import { type CliOptions, createSandbox, demoModel, runJson, type Sandbox, type StartedNode, startNode } from './cli.ts'

export interface Swarm {
  readonly sandbox: Sandbox
  /** Its name. */
  readonly network: string
  /** A home that holds `what`, for example '--layers', '0-3', '--no-ends'. */
  setup(name: string, ...what: string[]): Promise<void>
  /** Its node, which meets those that run already; `flags` as for `start`. */
  start(name: string, ...flags: string[]): Promise<StartedNode>
  /** What a command needs to speak as the node of `name`, with this network. */
  as(name: string): string[]
  /** Asks the API of the running node of `name`. */
  get<T>(name: string, path: string): Promise<T>
  /** Waits until nothing of any ask is left at the nodes of `names`; throws with what is. */
  expectIdle(names: readonly string[], withinMs?: number): Promise<void>
  close(): Promise<void>
}

export const oneThread = ['--threads', '1']

export async function createSwarm(options: CliOptions = {}): Promise<Swarm> {
  const sandbox = await createSandbox()
  const server = await createFileServer({ root: demoModel })
  const network = `e2e-${randomBytes(6).toString('hex')}`
  const started = new Map<string, StartedNode>()
  const swarm: Swarm = {
    sandbox,
    network,
    async setup(name, ...what) {
      const home = ['--home', sandbox.home(name), '--network', network]
      await runJson(['setup', ...home, '--model', server.url, '--recipe', 'f32', ...what], options)
    },
    as(name) {
      const others = [...started].filter(([other, node]) => other !== name && !node.over)
      const meet = others.flatMap(([, { listening }]) => ['--bootstrap', listening[0] ?? ''])
      return ['--home', sandbox.home(name), '--no-mdns', '--host', '127.0.0.1', '--port', '0', ...meet]
    },
    async start(name, ...flags) {
      const [, home = '', ...rest] = swarm.as(name)
      const node = sandbox.track(await startNode(home, [...rest, '--api-port', '0', ...oneThread, ...flags], options))
      started.set(name, node)
      return node
    },
    async get(name, path) {
      const admin = await connectAdmin(locateHome(sandbox.home(name), {}))
      return admin.get(path)
    },
    async expectIdle(names, withinMs) {
      await eventually(async () => {
        const busy: object[] = []
        for (const name of names) {
          const { sessions, circuits, kvBytes } = await swarm.get<StatusBody>(name, '/api/status')
          if (sessions + circuits + kvBytes > 0) busy.push({ name, sessions, circuits, kvBytes })
        }
        if (busy.length > 0) throw new Error(`not idle: ${JSON.stringify(busy)}`)
      }, withinMs)
    },
    async close() {
      await sandbox.close()
      await server.close()
    },
  }
  return swarm
}

/** Tries `check` again until it does not throw, for at most `withinMs`. */
export async function eventually<T>(check: () => Promise<T>, withinMs = 10_000): Promise<T> {
  const deadlineMs = performance.now() + withinMs
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (performance.now() > deadlineMs) throw error
      await delay(100)
    }
  }
}
