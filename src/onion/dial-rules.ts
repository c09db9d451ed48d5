import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { onionLimits } from '../base/limits.ts'
import type { PeerTarget } from './ports.ts'

type Reach = 'public' | 'local' | 'never'

function blockList(family: 'ipv4' | 'ipv6', subnets: readonly (readonly [net: string, prefix: number])[]): BlockList {
  const list = new BlockList()
  for (const [net, prefix] of subnets) list.addSubnet(net, prefix, family)
  return list
}

/**
 * IANA special-purpose registries (RFC 6890). `local`: inside one network or machine. `never`: unspecified, multicast,
 * reserved, and IPv6 forms that hide an IPv4 address. One list for each family, since Node takes an IPv4 address for its
 * IPv6-mapped form.
 */
const RANGES = {
  ipv4: {
    local: blockList('ipv4', [
      ['10.0.0.0', 8],
      ['100.64.0.0', 10],
      ['127.0.0.0', 8],
      ['169.254.0.0', 16],
      ['172.16.0.0', 12],
      ['192.168.0.0', 16],
    ]),
    never: blockList('ipv4', [
      ['0.0.0.0', 8],
      ['224.0.0.0', 3],
    ]),
  },
  ipv6: {
    local: blockList('ipv6', [
      ['::1', 128],
      ['fc00::', 7],
      ['fe80::', 10],
    ]),
    never: blockList('ipv6', [
      ['::ffff:0:0', 96],
      ['::', 96],
      ['64:ff9b::', 96],
      ['64:ff9b:1::', 48],
      ['2002::', 16],
      ['ff00::', 8],
    ]),
  },
}

function reachOf(ip: string): Reach {
  const family = isIPv4(ip) ? 'ipv4' : isIPv6(ip) ? 'ipv6' : undefined
  if (family === undefined) return 'never'
  if (RANGES[family].local.check(ip, family)) return 'local'
  return RANGES[family].never.check(ip, family) ? 'never' : 'public'
}

/**
 * Where a hop may dial for an EXTEND (protocol.md §3); null: nowhere. A stranger chooses these addresses, so they must not
 * reach into this node's own network, and names are not looked up at all: they could point there.
 */
export function dialTarget(
  target: PeerTarget,
  rules: { predecessorIsLocal: boolean; lan: boolean; isConnected(peerId: string): boolean },
): PeerTarget | null {
  if (rules.isConnected(target.peerId)) return { peerId: target.peerId, addrs: [] }
  const addrs = target.addrs.filter((addr) => mayDial(addr, rules)).slice(0, onionLimits.extendDials)
  return addrs.length === 0 ? null : { peerId: target.peerId, addrs }
}

function mayDial(
  addr: string,
  rules: { predecessorIsLocal: boolean; lan: boolean; isConnected(peerId: string): boolean },
): boolean {
  const [, protocol = '', ip = '', ...rest] = addr.split('/')
  const circuit = rest.indexOf('p2p-circuit')
  if (circuit >= 0) {
    const relay = rest[circuit - 2] === 'p2p' ? rest[circuit - 1] : undefined
    return relay !== undefined && rules.isConnected(relay)
  }
  if (protocol !== 'ip4' && protocol !== 'ip6') return false
  const reach = reachOf(ip)
  return reach === 'public' || (reach === 'local' && rules.lan && rules.predecessorIsLocal)
}
