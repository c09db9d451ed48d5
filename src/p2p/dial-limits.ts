import type { Connection, Transport } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { p2pLimits } from '../base/limits.ts'

export type CreateTransport<C, T extends Transport> = (components: C) => T
type DialOptions = Parameters<Transport['dial']>[1]
type Dial = (options: DialOptions) => Promise<Connection>

/** A transport whose dials go through `around`. */
export function wrapDial<C, T extends Transport>(
  create: CreateTransport<C, T>,
  around: (dial: Dial, addr: Multiaddr, options: DialOptions) => Promise<Connection>,
): CreateTransport<C, T> {
  return (components) => {
    const transport = create(components)
    const dial = transport.dial.bind(transport)
    transport.dial = (addr, options) => around((changed) => dial(addr, changed), addr, options)
    return transport
  }
}

/** The whole dial within connectAddressMs: a dead address leaves time for the peer's next one. */
export function limitDial<C, T extends Transport>(create: CreateTransport<C, T>): CreateTransport<C, T> {
  return wrapDial(create, (dial, _, options) =>
    dial({ ...options, signal: AbortSignal.any([options.signal, AbortSignal.timeout(p2pLimits.connectAddressMs)]) }),
  )
}

/**
 * Somebody there within connectAddressMs. The handshake may then take what is left of connectMs: with a bootstrap node at
 * which a hundred arrive together it takes seconds, and whoever gave up would come again and make it more.
 */
export function limitReaching<C, T extends Transport>(create: CreateTransport<C, T>): CreateTransport<C, T> {
  return wrapDial(create, async (dial, _, options) => {
    const { signal, upgrader } = options
    const nobody = new AbortController()
    const timer = setTimeout(() => nobody.abort(), p2pLimits.connectAddressMs)
    const handshake: Pick<typeof upgrader, 'upgradeOutbound'> = {
      upgradeOutbound(socket, settings) {
        clearTimeout(timer)
        return upgrader.upgradeOutbound(socket, { ...settings, signal })
      },
    }
    try {
      return await dial({
        ...options,
        signal: AbortSignal.any([signal, nobody.signal]),
        upgrader: Object.assign(Object.create(upgrader), handshake),
      })
    } finally {
      clearTimeout(timer)
    }
  })
}
