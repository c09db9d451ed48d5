import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { onionLimits } from '../base/limits.ts'
import type { PeerTarget } from './ports.ts'

type Reach = 'public' | 'local' | 'never'

/** IANA special-purpose registries (RFC 6890): addresses inside one network or machine. */
const local = new BlockList()
for (const [net, prefix] of [
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const) {
  local.addSubnet(net, prefix, 'ipv4')
}
local.addAddress('::1', 'ipv6')
local.addSubnet('fc00::', 7, 'ipv6')
local.addSubnet('fe80::', 10, 'ipv6')

/** Unspecified, multicast, reserved, and IPv6 forms that hide an IPv4 address from the checks above. */
const never = new BlockList()
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['224.0.0.0', 3],
] as const) {
  never.addSubnet(net, prefix, 'ipv4')
}
never.addAddress('::', 'ipv6')
for (const [net, prefix] of [
  ['::ffff:0:0', 96],
  ['::', 96],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['2002::', 16],
  ['ff00::', 8],
] as const) {
  never.addSubnet(net, prefix, 'ipv6')
}

function reachOf(ip: string): Reach {
  const family = isIPv4(ip) ? 'ipv4' : isIPv6(ip) ? 'ipv6' : undefined
  if (family === undefined) return 'never'
  if (local.check(ip, family)) return 'local'
  return never.check(ip, family) ? 'never' : 'public'
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
