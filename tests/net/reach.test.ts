import { expect, test } from 'vitest'
import { internetUnavailable } from './internet.ts'
import { internet, startPeerIn, word } from './peers.ts'

const unavailable = internetUnavailable()
const why = unavailable === null ? '' : `: ${unavailable}`

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
  const bootstrap = await startPeerIn(net, net.onServer(0), { vouched: true, relay: true })
  const meet = { bootstrap: bootstrap.meet, relay: true }
  const [open, closed, hidden, forwarded] = await Promise.all([
    startPeerIn(net, net.onServer(1), meet),
    startPeerIn(net, net.onServer(2), meet),
    startPeerIn(net, net.onMachine(0, 0), meet),
    startPeerIn(net, net.onMachine(1, 0), meet),
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
