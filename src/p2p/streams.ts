import type { Connection, Stream } from '@libp2p/interface'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { createFramedStream, type FramedStream } from './framed-stream.ts'
import type { Host } from './host.ts'
import type { Links } from './links.ts'
import { dialAddrs, isLocalAddr, type PeerTarget, parseMultiaddr, publicSubnet } from './peer-addrs.ts'

export interface FrameRules {
  readonly headerBytes: number
  readonly frameLength: (header: Uint8Array) => number
}

export function frameStream(stream: Stream, connection: Connection, rules: FrameRules): FramedStream {
  return createFramedStream(stream, {
    ...rules,
    remotePeer: connection.remotePeer.toString(),
    remoteIsLocal: isLocalAddr(connection.remoteAddr),
    remoteSubnet: publicSubnet(connection.remoteAddr),
  })
}

/** What opens connections, and knows which one to use. */
export interface Dialler {
  readonly host: Host
  readonly links: Pick<Links, 'open'>
}

/**
 * A connection whose far end is proven to be `target.peerId`: an open one, or a new one within p2pLimits.connectMs.
 * Throws PEER_UNREACHABLE, ABORTED.
 */
export async function connectTo(dialler: Dialler, target: PeerTarget, signal: AbortSignal): Promise<Connection> {
  return dialler.links.open(target.peerId)[0] ?? (await dial(dialler.host, target, signal))
}

async function dial(host: Host, target: PeerTarget, signal: AbortSignal): Promise<Connection> {
  throwIfAborted(signal)
  if (target.peerId === host.peerId.toString()) {
    throw new LlmNodeError('PEER_UNREACHABLE', 'A node has no link to itself.')
  }
  const addrs = dialAddrs(target)
  if (addrs.length === 0) {
    throw new LlmNodeError('PEER_UNREACHABLE', `There is no connection to ${target.peerId} and no address to dial.`)
  }
  const limited = AbortSignal.any([signal, AbortSignal.timeout(p2pLimits.connectMs)])
  try {
    // Forced: the caller has found no connection, or one that is dead without libp2p knowing it yet.
    const connection = await host.dial(addrs, { signal: limited, force: true })
    if (connection.remotePeer.toString() === target.peerId) return connection
    connection.abort(new Error('another peer'))
    throw new Error('another peer answered')
  } catch (cause) {
    throwIfAborted(signal)
    throw new LlmNodeError('PEER_UNREACHABLE', `${target.peerId} does not answer at ${target.addrs.join(', ')}.`, {
      hint: 'It may be switched off, or a firewall may be in between.',
      cause,
    })
  }
}

/** The PeerId of whoever answers at a multiaddr. Throws BAD_INPUT, PEER_UNREACHABLE, ABORTED. */
export async function meetAt(host: Host, addr: string, signal: AbortSignal): Promise<string> {
  throwIfAborted(signal)
  const parsed = parseMultiaddr(addr)
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(p2pLimits.connectMs)])
    const connection = await host.dial(parsed, { signal: limited })
    return connection.remotePeer.toString()
  } catch (cause) {
    throwIfAborted(signal)
    throw new LlmNodeError('PEER_UNREACHABLE', `Nobody answers at ${addr}.`, { cause })
  }
}

/**
 * A new stream of `protocol` to the target. When the open connection is dead or mute, a new one is tried; the old one
 * is left alone, other streams may live on it. Throws PEER_UNREACHABLE, ABORTED.
 */
export async function openStream(
  { host, links }: Dialler,
  target: PeerTarget,
  options: { protocol: string; signal: AbortSignal; rules: FrameRules },
): Promise<FramedStream> {
  const { protocol, signal, rules } = options
  throwIfAborted(signal)
  const [existing] = links.open(target.peerId)
  if (existing !== undefined) {
    const timeout = AbortSignal.timeout(p2pLimits.connectAddressMs)
    try {
      return frameStream(await newStream(existing, protocol, [signal, timeout]), existing, rules)
    } catch (error) {
      throwIfAborted(signal)
      const mute = timeout.aborted || existing.status !== 'open'
      if (!mute || target.addrs.length === 0) throw error
    }
  }
  const connection = await dial(host, target, signal)
  const timeout = AbortSignal.timeout(p2pLimits.connectMs)
  return frameStream(await newStream(connection, protocol, [signal, timeout]), connection, rules)
}

async function newStream(connection: Connection, protocol: string, signals: AbortSignal[]): Promise<Stream> {
  try {
    const stream = await connection.newStream(protocol, {
      signal: AbortSignal.any(signals),
      runOnLimitedConnection: true,
    })
    // A far end above its limit resets the stream while libp2p still returns it as negotiated.
    if (stream.status !== 'open') throw new Error('the stream was reset at once')
    return stream
  } catch (cause) {
    throwIfAborted(signals[0])
    throw new LlmNodeError('PEER_UNREACHABLE', `${connection.remotePeer} did not open a ${protocol} stream.`, { cause })
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.', { cause: signal.reason })
}
