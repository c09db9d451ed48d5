import { type DCUtRServiceComponents, dcutr } from '@libp2p/dcutr'
import type { Connection } from '@libp2p/interface'

/**
 * DCUtR as libp2p has it: a relayed connection is followed by attempts at a direct one, of which the plain dial to a public
 * peer succeeds; punching holes does not, since Node's TCP cannot dial from the port that it listens on. libp2p would
 * then close the relayed connection with everything on it; here circuits live on until links.ts finds it idle.
 */
export function holePunchService(): (components: DCUtRServiceComponents) => unknown {
  return (components) => {
    const { registrar } = components
    const gentle: typeof registrar = Object.assign(Object.create(registrar), {
      register: (protocol: string, topology: Parameters<typeof registrar.register>[1]) =>
        registrar.register(protocol, {
          ...topology,
          onConnect: (peer, connection) =>
            topology.onConnect?.(peer, connection === undefined ? connection : lasting(connection)),
        }),
      handle: (...[protocol, handler, options]: Parameters<typeof registrar.handle>) =>
        registrar.handle(protocol, (stream, connection) => handler(stream, lasting(connection)), options),
    })
    return dcutr()(
      new Proxy(components, { get: (target, name) => (name === 'registrar' ? gentle : Reflect.get(target, name)) }),
    )
  }
}

function lasting(connection: Connection): Connection {
  return new Proxy(connection, {
    get(target, name) {
      if (name === 'close') return async () => {}
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
