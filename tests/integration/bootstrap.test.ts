import { readFile } from 'node:fs/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { type CliProcess, spawnCli } from '../e2e/cli.ts'
import { createCleanup, eventually, startPeer, temporaryFolder } from './p2p-helpers.ts'
import { serve, startSwarmNode, until } from './swarm-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(55_000)

interface Bootstrap {
  readonly process: CliProcess
  readonly address: string
  readonly listening: string[]
  readonly url: string
}

/** `llm-node bootstrap run` as a process of its own. */
async function startBootstrap(home: string, port = 0): Promise<Bootstrap> {
  const flags = ['--network', 'test', '--no-mdns', '--host', '127.0.0.1', '--port', `${port}`, '--http-port', '0']
  const process = spawnCli(['bootstrap', 'run', '--json', '--home', home, ...flags])
  cleanup.add(async () => {
    process.kill('SIGKILL')
    await process.ended
  })
  await process.seen('\n')
  return { process, ...(JSON.parse(process.stdout) as Omit<Bootstrap, 'process'>) }
}

describe('a bootstrap node', () => {
  it('lets nodes meet; when it is killed they still find each other, and it comes back as itself', async () => {
    const [home, keys, known] = [
      await temporaryFolder(cleanup),
      await temporaryFolder(cleanup),
      await temporaryFolder(cleanup),
    ]
    const first = await startBootstrap(home)
    const bootstrap = first.listening
    const a = await startSwarmNode(cleanup, {
      bootstrap,
      identityFolder: keys,
      peersFolder: known,
      serving: [serve(0, 2)],
    })
    const b = await startSwarmNode(cleanup, { bootstrap, serving: [serve(2, 4)] })
    const sees = (from: typeof a, address: string) => () => from.swarm.peers().some((peer) => peer.address === address)
    await until(a.swarm, sees(a, b.identity.address), 5_000)
    await until(b.swarm, sees(b, a.identity.address), 5_000)
    // The bootstrap node itself has an .llm address.
    expect(sees(a, first.address)()).toBe(true)

    first.process.kill('SIGKILL')
    await first.process.ended
    const contact = await a.swarm.contact(b.identity.address, { signal })
    await a.node.connect(contact, { signal })
    expect(a.node.isConnected(b.node.self.peerId)).toBe(true)

    await a.swarm.stop()
    await a.node.stop()
    const again = await startSwarmNode(cleanup, {
      bootstrap,
      identityFolder: keys,
      peersFolder: known,
      serving: [serve(0, 2)],
    })
    await until(again.swarm, sees(again, b.identity.address), 10_000)

    const port = Number(/tcp\/(\d+)/.exec(bootstrap[0] ?? '')?.[1])
    const second = await startBootstrap(home, port)
    expect(second.address).toBe(first.address)
    expect(second.listening).toContain(first.listening[0])
    // It dials those it knew; b dials it, too.
    const c = await startSwarmNode(cleanup, { bootstrap })
    await until(c.swarm, sees(c, b.identity.address), 15_000)
  })

  it('takes a hundred that come at once, and counts them', async () => {
    const { listening, url, process } = await startBootstrap(await temporaryFolder(cleanup))
    const nodes = await Promise.all(Array.from({ length: 100 }, () => startPeer(cleanup)))
    const startMs = performance.now()
    const met = await Promise.all(nodes.map(({ node }) => node.meet(listening[0] ?? '', { signal })))
    const tookMs = performance.now() - startMs
    const health = await (await fetch(`${url}/healthz`)).json()
    expect(health).toMatchObject({ ok: true, peers: 100 })
    const metrics = await (await fetch(`${url}/metrics`)).text()
    expect(metrics).toContain('llm_bootstrap_joins_total 100')
    expect(metrics).not.toContain(met[0] ?? '12D3')
    expect(tookMs).toBeLessThan(15_000)
    const rss = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${process.pid}/status`, 'utf8').catch(() => ''))?.[1]
    // biome-ignore lint/suspicious/noConsole: the figures are part of what this test is for.
    console.info(`100 joins in ${tookMs.toFixed(0)} ms, ${rss} kB resident`)
    expect((await fetch(`${url}/elsewhere`)).status).toBe(404)
    process.kill('SIGTERM')
    expect((await process.ended).code).toBe(0)
    await eventually(() => nodes.every(({ node }) => node.connections().length === 0), 5_000)
  })
})
