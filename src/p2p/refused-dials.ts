import type { Connection, Transport } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { createRecentMap } from '../base/recent-map.ts'
import { type CreateTransport, wrapDial } from './dial-limits.ts'
import { isLocalAddr } from './peer-addrs.ts'

/** Wraps the two direct transports, so that one learns from the other. */
export interface RefusedDials {
  tcp<C, T extends Transport>(create: CreateTransport<C, T>): CreateTransport<C, T>
  quic<C, T extends Transport>(create: CreateTransport<C, T>): CreateTransport<C, T>
}

/**
 * A machine on which a node has died refuses TCP at once and leaves QUIC without an answer. So where TCP was refused for a
 * peer a moment ago, QUIC to the same IP gets two round trips instead of connectAddressMs. It is not left out, for a
 * firewall may refuse TCP for a node that lives.
 */
export function createRefusedDials(nowMs: () => number): RefusedDials {
  /** When TCP was refused, by peer and IP. */
  const refused = createRecentMap<number>(p2pLimits.refusedDials)
  return {
    tcp: (create) =>
      wrapDial(create, async (dial, addr, options) => {
        try {
          return await dial(options)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') refused.set(placeOf(addr), nowMs())
          throw error
        }
      }),
    quic: (create) =>
      wrapDial(create, (dial, addr, options) => {
        const sinceMs = nowMs() - (refused.get(placeOf(addr)) ?? Number.NEGATIVE_INFINITY)
        if (sinceMs >= p2pLimits.connectMs) return dial(options)
        return within(isLocalAddr(addr) ? p2pLimits.refusedLocalMs : p2pLimits.refusedDialMs, dial(options))
      }),
  }
}

/** A peer at an IP: the ports of its transports may differ. */
function placeOf(addr: Multiaddr): string {
  const [ip, ...rest] = addr.getComponents()
  return `${ip?.value} ${rest.at(-1)?.value}`
}

/** QUIC's handshake cannot be broken off: one that comes about later is a connection like others. */
async function within(ms: number, dialling: Promise<Connection>): Promise<Connection> {
  dialling.catch(() => {})
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new LlmNodeError('PEER_UNREACHABLE', `Nobody answered within ${ms} ms.`)), ms)
  })
  try {
    return await Promise.race([dialling, late])
  } finally {
    clearTimeout(timer)
  }
}
