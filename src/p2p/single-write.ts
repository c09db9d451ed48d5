import type { ConnectionEncrypter, MessageStream, SecureConnectionOptions } from '@libp2p/interface'

/**
 * Wraps a connection encrypter so that each encrypted message goes to the socket as one buffer. Noise hands over its
 * length prefix and its ciphertext as a list, and the TCP transport makes one write of every item: two system calls,
 * and a receiver that wakes for two bytes first.
 */
export function singleWrite<C>(create: (components: C) => ConnectionEncrypter): (components: C) => ConnectionEncrypter {
  return (components) => {
    const encrypter = create(components)
    return {
      protocol: encrypter.protocol,
      secureInbound: (stream, options?: SecureConnectionOptions) => encrypter.secureInbound(joinSends(stream), options),
      secureOutbound: (stream, options?: SecureConnectionOptions) =>
        encrypter.secureOutbound(joinSends(stream), options),
    }
  }
}

function joinSends<S extends MessageStream>(stream: S): S {
  const send = stream.send.bind(stream)
  stream.send = (data) => send(data instanceof Uint8Array ? data : data.subarray())
  return stream
}
