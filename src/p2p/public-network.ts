import { isIPv4, isIPv6 } from 'node:net'

/** The public network of a multiaddr, /16 of IPv4 and /32 of IPv6; undefined for local, relayed and named ones. */
export function networkOf(addr: string): string | undefined {
  const [, protocol = '', ip = ''] = addr.split('/')
  if (addr.includes('/p2p-circuit')) return undefined
  if (protocol === 'ip4' && isIPv4(ip)) {
    const [a = 0, b = 0] = ip.split('.').map(Number)
    const local =
      a === 0 ||
      a === 10 ||
      a === 127 ||
      (a === 100 && b >= 64 && b < 128) ||
      (a === 169 && b === 254) ||
      (a === 172 && b >= 16 && b < 32) ||
      (a === 192 && b === 168)
    return local ? undefined : `${a}.${b}.0.0/16`
  }
  if (protocol !== 'ip6' || !isIPv6(ip)) return undefined
  const [head = '', tail] = ip.split('%')[0]?.split('::') ?? []
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) while (groups.length < 2) groups.push('0')
  const [first = 0, second = 0] = groups.map((group) => Number.parseInt(group, 16))
  // Outside 2000::/3 nothing is public.
  return first >> 13 === 1 ? `${first.toString(16)}:${second.toString(16)}::/32` : undefined
}
