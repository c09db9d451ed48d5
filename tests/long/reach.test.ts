import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { internetUnavailable } from '../net/internet.ts'
import { internet, linkTo, startPeerIn, word } from '../net/peers.ts'

const unavailable = internetUnavailable()
const why = unavailable === null ? '' : `: ${unavailable}`
const gatewayProgram = fileURLToPath(new URL('../net/gateway.process.ts', import.meta.url))

test.skipIf(unavailable !== null)(`a router that speaks UPnP forwards the port when asked${why}`, async () => {
  const net = await internet({ servers: 1, lans: [2] })
  const inside = net.machineAddress(0, 0).replace(/\d+$/, '1')
  const gateway = net.spawn(net.onRouter(0), process.execPath, [gatewayProgram, inside, net.routerAddress(0)])
  const said: string[] = []
  await new Promise<void>((resolve) => {
    createInterface({ input: gateway.stdout ?? process.stdin }).on('line', (line) => {
      said.push(line)
      resolve()
    })
  })
  const bootstrap = await startPeerIn(net, net.onServer(0), { vouched: true, relay: true })
  const [asks, never] = await Promise.all([
    startPeerIn(net, net.onMachine(0, 0), { bootstrap: bootstrap.meet, upnp: true }),
    startPeerIn(net, net.onMachine(0, 1), { bootstrap: bootstrap.meet }),
  ])
  const mapped = await asks.until(word('mapped'), 60_000)
  expect(mapped.addrs[0]).toBe(`/ip4/${net.routerAddress(0)}/tcp/5561`)
  expect(said).toContain(`tcp 5561 to ${net.machineAddress(0, 0)}:5561`)
  expect(said).toContain(`udp 5561 to ${net.machineAddress(0, 0)}:5561`)
  // Its neighbour, seen under the same address, does not take that for its own.
  expect(never.now.reachability.word).toBe('relayed')
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
    startPeerIn(net, net.onServer(1), { vouched: true }),
    startPeerIn(net, net.onServer(2), { vouched: true }),
  ])
  const caller = await startPeerIn(net, net.onServer(0), {
    vouched: true,
    bootstrap: [...lossy.meet.slice(0, 1), ...blocked.meet.slice(0, 1)],
  })
  await caller.until(linkTo(blocked, 'tcp'))
  await caller.until(({ reachability }) => reachability.quic.failed === 1)
  const chosen = await caller.until((report) => linkTo(lossy, 'quic')(report) && !linkTo(lossy, 'tcp')(report), 40_000)
  expect(chosen.reachability.quic.worked).toBe(1)
  expect(linkTo(blocked, 'tcp')(chosen)).toBe(true)
})
