import { createServer, isIP } from 'node:net'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { listenAddrs } from '../p2p/peer-addrs.ts'

const DEFAULT_PORT = 5561

/** Multiaddrs to listen on. Without a port of its own in the configuration: 5561, or any free one when that is taken. */
export async function listenAddresses({ host, port }: Config['network']): Promise<string[]> {
  if (isIP(host) === 0) {
    throw new LlmNodeError('BAD_INPUT', `"${host}" is no IP address to listen on.`, {
      hint: 'Write an address of this machine, or 0.0.0.0 for all of them.',
    })
  }
  const chosen = port ?? ((await isFree(host, DEFAULT_PORT)) ? DEFAULT_PORT : 0)
  return listenAddrs(host, chosen, ['tcp'])
}

export function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
