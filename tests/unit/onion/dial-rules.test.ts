import { expect, it } from 'vitest'
import { dialTarget } from '../../../src/onion/dial-rules.ts'

const connected = 'QmConnected'
const dial = (addrs: string[], predecessorIsLocal = false, lan = false, peerId = 'QmTarget') =>
  dialTarget({ peerId, addrs }, { predecessorIsLocal, lan, isConnected: (id) => id === connected })?.addrs ?? null

it('public addresses are dialled, two of them', () => {
  const v4 = ['/ip4/11.0.0.1/tcp/1', '/ip4/172.32.0.1/udp/1/quic-v1', '/ip4/100.128.0.1/tcp/1']
  expect(dial(v4)).toEqual(v4.slice(0, 2))
  expect(dial(['/ip6/2a00::1/tcp/1'])).toEqual(['/ip6/2a00::1/tcp/1'])
})

const local = [
  '/ip4/10.1.2.3/tcp/1',
  '/ip4/100.64.0.1/tcp/1',
  '/ip4/127.0.0.1/tcp/1',
  '/ip4/169.254.1.1/tcp/1',
  '/ip4/172.16.0.1/tcp/1',
  '/ip4/172.31.255.255/tcp/1',
  '/ip4/192.168.0.1/tcp/1',
  '/ip6/::1/tcp/1',
  '/ip6/0:0:0:0:0:0:0:1/tcp/1',
  '/ip6/fd12::1/tcp/1',
  '/ip6/fe80::1/tcp/1',
]
it.each(local)('%s only for a local predecessor in a local network', (addr) => {
  expect(dial([addr])).toBeNull()
  expect(dial([addr], true, false)).toBeNull()
  expect(dial([addr], false, true)).toBeNull()
  expect(dial([addr], true, true)).toEqual([addr])
})

it.each([
  '/ip4/0.0.0.0/tcp/1',
  '/ip4/224.0.0.1/tcp/1',
  '/ip4/255.255.255.255/tcp/1',
  '/ip6/::/tcp/1',
  '/ip6/::ffff:127.0.0.1/tcp/1',
  '/ip6/::ffff:7f00:1/tcp/1',
  '/ip6/::7f00:1/tcp/1',
  '/ip6/64:ff9b::7f00:1/tcp/1',
  '/ip6/2002:7f00:1::/tcp/1',
  '/ip6/ff02::1/tcp/1',
  '/ip6zone/eth0/ip6/fe80::1/tcp/1',
  '/dns4/localhost/tcp/1',
  '/dnsaddr/example.org',
  '/unix/tmp/socket',
  '/ip4/11.0.0.1/tcp/1/p2p/QmOther/p2p-circuit',
  '/p2p-circuit',
])('%s never', (addr) => {
  expect(dial([addr], true, true)).toBeNull()
})

it('a relayed address only over a relay that is connected; a connected peer needs no address', () => {
  const relayed = `/ip4/127.0.0.1/tcp/1/p2p/${connected}/p2p-circuit`
  expect(dial([relayed])).toEqual([relayed])
  expect(dial(['/ip4/127.0.0.1/tcp/1'], false, false, connected)).toEqual([])
  expect(dial([])).toBeNull()
})
