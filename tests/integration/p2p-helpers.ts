import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../../src/base/logger.ts'
import { type Identity, loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { listenAddrs } from '../../src/p2p/peer-addrs.ts'
import { createPeerNode, type PeerNode, type PeerNodeOptions } from '../../src/p2p/peer-node.ts'

/** Everything a test opened, closed again in reverse order also after a failure. */
export interface Cleanup {
  add(task: () => Promise<unknown>): void
  run(): Promise<void>
}

export function createCleanup(): Cleanup {
  const tasks: (() => Promise<unknown>)[] = []
  return {
    add: (task) => tasks.push(task),
    async run() {
      for (const task of tasks.splice(0).reverse()) await task().catch(() => {})
    },
  }
}

export async function temporaryFolder(cleanup: Cleanup): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'llm-p2p-'))
  cleanup.add(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export interface TestPeer {
  readonly identity: Identity
  readonly node: PeerNode
  readonly target: { peerId: string; addrs: readonly string[] }
  /** With the PeerId, for a bootstrap list. */
  readonly bootstrap: string[]
}

/** A node on 127.0.0.1 without mDNS. Not started when `prepare` is given: it registers handlers, then start() is called. */
export async function startPeer(
  cleanup: Cleanup,
  options: Partial<PeerNodeOptions> & { identityFolder?: string } = {},
  prepare: (node: PeerNode, identity: Identity) => Promise<void> = async () => {},
): Promise<TestPeer> {
  const { identityFolder, ...nodeOptions } = options
  const identity = await loadOrCreateIdentity(identityFolder ?? (await temporaryFolder(cleanup)), { nowMs: Date.now() })
  const node = await createPeerNode(
    {
      network: 'test',
      version: '0.0.0',
      mdns: false,
      transports: ['tcp'],
      listen: listenAddrs('127.0.0.1', 0, nodeOptions.transports ?? ['tcp']),
      ...nodeOptions,
    },
    { identity, logger: silentLogger },
  )
  cleanup.add(() => node.stop())
  await prepare(node, identity)
  await node.start()
  const addrs = node.self.addrs()
  const { peerId } = node.self
  return { identity, node, target: { peerId, addrs }, bootstrap: addrs.map((addr) => `${addr}/p2p/${peerId}`) }
}

/** Asks again at short intervals until `check` gives a value. For states that have no event to wait for. */
export async function eventually<T>(check: () => T | undefined | false, withinMs: number): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = check()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) throw new Error(`not true within ${withinMs} ms: ${check.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
