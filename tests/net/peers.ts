/** Peer nodes in the namespaces of a test internet, see peer.process.ts. */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { createInternet, type TestInternet } from './internet.ts'
import type { PeerOptions, PeerReport } from './peer.process.ts'

const program = fileURLToPath(new URL('./peer.process.ts', import.meta.url))

export interface Peer {
  readonly now: PeerReport
  /** Its first report of which `check` is true. */
  until(check: (report: PeerReport) => boolean, withinMs?: number): Promise<PeerReport>
  readonly child: ChildProcess
  /** Where it can be met, with its PeerId. */
  readonly meet: string[]
}

export async function startPeerIn(
  net: TestInternet,
  prefix: readonly string[],
  options: PeerOptions = {},
): Promise<Peer> {
  const child = net.spawn(prefix, process.execPath, [program, JSON.stringify(options)])
  const reports: PeerReport[] = []
  let wake = () => {}
  createInterface({ input: child.stdout ?? process.stdin }).on('line', (line) => {
    reports.push(JSON.parse(line) as PeerReport)
    wake()
  })
  const until: Peer['until'] = (check, withinMs = 30_000) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`not within ${withinMs} ms: ${JSON.stringify(reports.at(-1))}`)),
        withinMs,
      )
      const look = () => {
        const last = reports.at(-1)
        if (last === undefined || !check(last)) return
        clearTimeout(timer)
        resolve(last)
      }
      const before = wake
      wake = () => {
        before()
        look()
      }
      look()
    })
  // The addresses beyond loopback follow a moment after the start.
  const first = await until(({ addrs }) => addrs.some((addr) => !addr.startsWith('/ip4/127.')))
  return {
    get now() {
      return reports.at(-1) ?? first
    },
    until,
    child,
    meet: first.addrs.map((addr) => `${addr}/p2p/${first.peerId}`),
  }
}

export async function internet(options: { servers: number; lans: readonly number[] }): Promise<TestInternet> {
  const net = await createInternet(options)
  onTestFinished(() => net.remove())
  return net
}

/** Says this about how it is reached. */
export const word =
  (wanted: string) =>
  ({ reachability }: PeerReport): boolean =>
    reachability.word === wanted
/** Has a connection of this transport to the peer. */
export const linkTo =
  (peer: Peer, transport: string) =>
  ({ connections }: PeerReport): boolean =>
    connections.some((link) => link.peerId === peer.now.peerId && link.transport === transport)
