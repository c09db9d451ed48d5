import { BlockList, isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { peerIdFromString } from '@libp2p/peer-id'
import { isLinkLocal, isLoopback, isPrivate } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'

/** Where and who: what a dial needs. Structurally the PeerTarget of src/onion/ports.ts. */
export interface PeerTarget {
  /** Transport PeerId as text. */
  readonly peerId: string
  /** Multiaddrs as text; empty: only an existing connection. */
  readonly addrs: readonly string[]
}

export type TransportName = 'tcp' | 'quic'

/** Multiaddrs to listen on: one a transport. Port 0: any free one. */
export function listenAddrs(host: string, port: number, transports: readonly TransportName[]): string[] {
  const base = `${host.includes(':') ? '/ip6' : '/ip4'}/${host}`
  return transports.map((name) => (name === 'tcp' ? `${base}/tcp/${port}` : `${base}/udp/${port}/quic-v1`))
}

/** Through a relay. */
export function isRelayedAddr(addr: Multiaddr): boolean {
  return addr.toString().includes('/p2p-circuit')
}

/** PeerId of the relay of a relayed address; empty where there is none. */
export function relayOf(addr: Multiaddr): string {
  return /\/p2p\/([^/]+)\/p2p-circuit/.exec(addr.toString())?.[1] ?? ''
}

export function transportOf(addr: Multiaddr): 'tcp' | 'quic' | 'relay' {
  const text = addr.toString()
  return text.includes('/p2p-circuit') ? 'relay' : text.includes('/quic') ? 'quic' : 'tcp'
}

/** Loopback, link-local or private: LAN rules apply (protocol.md §3). Relayed addresses are never local. */
export function isLocalAddr(addr: Multiaddr): boolean {
  if (isRelayedAddr(addr)) return false
  return isLoopback(addr) || isLinkLocal(addr) || isPrivate(addr)
}

/** The public subnet of an address, for limits that count networks: /24 of IPv4, /48 of IPv6; undefined when local. */
export function publicSubnet(addr: Multiaddr): string | undefined {
  const [first] = addr.getComponents()
  if (first?.value === undefined || isLocalAddr(addr)) return undefined
  if (first.name === 'ip4') return `${first.value.split('.').slice(0, 3).join('.')}.0/24`
  if (first.name !== 'ip6') return undefined
  const [head = '', tail] = first.value.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) groups.push(...Array.from({ length: Math.max(0, 3 - groups.length) }, () => '0'))
  return `${groups.slice(0, 3).join(':')}::/48`
}

/**
 * The addresses worth telling others, without the PeerId, at most p2pLimits.addressesPerPeer: public ones first, then one
 * of each relay, then local ones; loopback ones only when there is nothing else, which is a swarm on one machine.
 */
export function shareableAddrs(addrs: readonly Multiaddr[]): string[] {
  const plain = addrs.map((addr) => withoutPeerId(addr)).filter((addr) => addr.bytes.length <= p2pLimits.multiaddrBytes)
  const direct = plain.filter((addr) => !isRelayedAddr(addr))
  const beyond = direct.filter((addr) => !isLoopback(addr))
  const [near, far] = [beyond.length > 0 ? beyond : direct, direct.filter((addr) => !isLocalAddr(addr))]
  // TCP: whoever comes from afar may be without UDP.
  const relayed = new Map<string, Multiaddr>()
  for (const addr of plain.filter(isRelayedAddr)) {
    const relay = relayOf(addr)
    if (!relayed.has(relay) || addr.toString().includes('/tcp/')) relayed.set(relay, addr)
  }
  const texts = [...far, ...relayed.values(), ...near].map(String)
  return [...new Set(texts)].slice(0, p2pLimits.addressesPerPeer)
}

/** What the order of a dial depends on. */
export interface DialKnowledge {
  isOwnNetwork(ip: string): boolean
  isConnected(peerId: string): boolean
  preferred(peerId: string): TransportName
}

/**
 * In which order a dial tries addresses: this machine's own network, then public ones, loopback, relays, those first that
 * are connected and so alive, and at last other private networks, where somebody else may live; within each the preferred
 * transport first.
 */
export function compareDialAddrs(a: Multiaddr, b: Multiaddr, known: DialKnowledge): -1 | 0 | 1 {
  const rank = (addr: Multiaddr): number => {
    if (isRelayedAddr(addr)) return known.isConnected(relayOf(addr)) ? 3 : 4
    if (isLoopback(addr)) return 2
    if (!isLocalAddr(addr)) return 1
    const [first] = addr.getComponents()
    return first?.value !== undefined && known.isOwnNetwork(first.value) ? 0 : 5
  }
  const late = (addr: Multiaddr): number => {
    const last = addr.getComponents().at(-1)
    const peerId = last?.name === 'p2p' ? (last.value ?? '') : ''
    return addr.toString().includes('/quic') === (known.preferred(peerId) === 'quic') ? 0 : 1
  }
  const order = rank(a) - rank(b) || late(a) - late(b)
  return order < 0 ? -1 : order > 0 ? 1 : 0
}

/** Whether an IPv4 address lies in a network to which this machine itself belongs. */
export function isOwnNetwork(ip: string): boolean {
  if (!isIPv4(ip)) return false
  return Object.values(networkInterfaces()).some((entries) =>
    entries?.some(({ family, cidr }) => {
      if (family !== 'IPv4' || cidr === null) return false
      const [net = '', bits = '32'] = cidr.split('/')
      const list = new BlockList()
      list.addSubnet(net, Number(bits), 'ipv4')
      return list.check(ip, 'ipv4')
    }),
  )
}

/** Drops a trailing /p2p/PEERID. */
function withoutPeerId(addr: Multiaddr): Multiaddr {
  const last = addr.getComponents().at(-1)
  return last?.name === 'p2p' ? addr.decapsulate(`/p2p/${last.value}`) : addr
}

/** The multiaddrs of a target with its PeerId appended, so that the transport proves it. Throws BAD_INPUT. */
export function dialAddrs(target: PeerTarget): Multiaddr[] {
  return target.addrs.slice(0, p2pLimits.addressesPerPeer).map((text) => {
    const addr = parseMultiaddr(text)
    const last = addr.getComponents().at(-1)
    if (last?.name !== 'p2p') return addr.encapsulate(`/p2p/${target.peerId}`)
    if (last.value === target.peerId) return addr
    throw new LlmNodeError('BAD_INPUT', 'An address belongs to another peer than the one asked for.')
  })
}

export function parseMultiaddr(text: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (cause) {
    throw new LlmNodeError('BAD_INPUT', `${JSON.stringify(text.slice(0, 120))} is no multiaddr.`, {
      hint: 'Write it like /ip4/192.168.1.7/tcp/5561 with /p2p/PEERID at the end where it is known.',
      cause,
    })
  }
}

/** Throws BAD_INPUT. */
export function parsePeerId(text: string): ReturnType<typeof peerIdFromString> {
  try {
    return peerIdFromString(text)
  } catch (cause) {
    throw new LlmNodeError('BAD_INPUT', `${JSON.stringify(text.slice(0, 80))} is no PeerId.`, { cause })
  }
}
