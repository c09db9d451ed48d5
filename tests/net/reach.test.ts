import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { createInternet, internetUnavailable, type TestInternet } from './internet.ts'
import type { PeerOptions, PeerReport } from './peer.process.ts'

const unavailable = internetUnavailable()
const why = unavailable === null ? '' : `: ${unavailable}`
const program = fileURLToPath(new URL('./peer.process.ts', import.meta.url))

interface Peer {
  readonly now: PeerReport
  /** Its first report of which `check` is true. */
  until(check: (report: PeerReport) => boolean, withinMs?: number): Promise<PeerReport>
  readonly child: ChildProcess
  /** Where it can be met, with its PeerId. */
  readonly meet: string[]
}

async function startNode(net: TestInternet, prefix: readonly string[], options: PeerOptions = {}): Promise<Peer> {
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
  const first = await until(() => true)
  return {
    get now() {
      return reports.at(-1) ?? first
    },
    until,
    child,
    meet: first.addrs.map((addr) => `${addr}/p2p/${first.peerId}`),
  }
}

async function internet(options: { servers: number; lans: readonly number[] }): Promise<TestInternet> {
  const net = await createInternet(options)
  onTestFinished(() => net.remove())
  return net
}

const word =
  (wanted: string) =>
  ({ reachability }: PeerReport): boolean =>
    reachability.word === wanted
const linkTo =
  (peer: Peer, transport: string) =>
  ({ connections }: PeerReport): boolean =>
    connections.some((link) => link.peerId === peer.now.peerId && link.transport === transport)

test.skipIf(unavailable !== null)(`nodes find out how others reach them${why}`, async () => {
  const net = await internet({ servers: 3, lans: [1, 1] })
  // Nothing comes in to the third server but answers: a public address that nobody can dial.
  await net.firewall(
    2,
    '-A',
    'INPUT',
    '-i',
    'wan',
    '-m',
    'conntrack',
    '--ctstate',
    'ESTABLISHED,RELATED',
    '-j',
    'ACCEPT',
  )
  await net.firewall(2, '-A', 'INPUT', '-i', 'wan', '-j', 'DROP')
  // The second router forwards the port, without having told anybody.
  await net.router(
    1,
    '-t',
    'nat',
    '-A',
    'PREROUTING',
    '-i',
    'wan',
    '-p',
    'tcp',
    '--dport',
    '5561',
    '-j',
    'DNAT',
    '--to',
    net.machineAddress(1, 0),
  )
  await net.router(1, '-I', 'FORWARD', '-i', 'wan', '-p', 'tcp', '--dport', '5561', '-j', 'ACCEPT')
  const bootstrap = await startNode(net, net.onServer(0), { vouched: true, relay: true })
  const meet = { bootstrap: bootstrap.meet, relay: true }
  const [open, closed, hidden, forwarded] = await Promise.all([
    startNode(net, net.onServer(1), meet),
    startNode(net, net.onServer(2), meet),
    startNode(net, net.onMachine(0, 0), meet),
    startNode(net, net.onMachine(1, 0), meet),
  ])
  expect(bootstrap.now.reachability).toMatchObject({ word: 'public', next: null })
  const relayed = await hidden.until(word('relayed'))
  expect(relayed.addrs[0]).toContain(`/ip4/${net.serverAddress(0)}/tcp/5561/p2p/${bootstrap.now.peerId}/p2p-circuit`)
  expect(relayed.reachability.reason).toContain('no public address')
  expect(relayed.reachability.next).toContain('forward TCP and UDP port 5561')
  expect((await open.until(word('public'))).reachability.reason).toContain(net.serverAddress(1))
  // Others may come in through it from now on.
  expect((await open.until(({ reachability }) => reachability.relaying !== null)).reachability.word).toBe('public')
  const mapped = await forwarded.until(word('mapped'))
  expect(mapped.addrs[0]).toBe(`/ip4/${net.routerAddress(1)}/tcp/5561`)
  const behindWall = await closed.until(word('relayed'))
  expect(behindWall.reachability.reason).toContain(`could dial /ip4/${net.serverAddress(2)}/`)
  expect(behindWall.addrs[0]).toContain('/p2p-circuit')
})

test.skipIf(unavailable !== null)(`links lose packets, or UDP is blocked: the transport fits${why}`, async () => {
  const net = await internet({ servers: 3, lans: [] })
  // TCP to the second server loses every third packet (a shaper); to the third no UDP comes through.
  await net.firewall(
    1,
    '-A',
    'INPUT',
    '-i',
    'wan',
    '-p',
    'tcp',
    '-m',
    'statistic',
    '--mode',
    'nth',
    '--every',
    '3',
    '--packet',
    '0',
    '-j',
    'DROP',
  )
  await net.firewall(2, '-A', 'INPUT', '-i', 'wan', '-p', 'udp', '-j', 'DROP')
  const [lossy, blocked] = await Promise.all([
    startNode(net, net.onServer(1), { vouched: true }),
    startNode(net, net.onServer(2), { vouched: true }),
  ])
  const caller = await startNode(net, net.onServer(0), {
    vouched: true,
    bootstrap: [...lossy.meet.slice(0, 1), ...blocked.meet.slice(0, 1)],
  })
  await caller.until(linkTo(blocked, 'tcp'))
  await caller.until(({ reachability }) => reachability.quic.failed === 1)
  const chosen = await caller.until((report) => linkTo(lossy, 'quic')(report) && !linkTo(lossy, 'tcp')(report), 40_000)
  expect(chosen.reachability.quic.worked).toBe(1)
  expect(linkTo(blocked, 'tcp')(chosen)).toBe(true)
})
