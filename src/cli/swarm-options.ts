import type { Argv } from 'yargs'
import type { ConfigOverrides } from '../base/config.ts'

/** Flags of the verbs that look at the swarm before a node is set up. */
export interface SwarmArguments {
  network?: string | undefined
  mdns?: boolean | undefined
  bootstrap?: string[] | undefined
}

export function addSwarmOptions<T>(yargs: Argv<T>): Argv<T & SwarmArguments> {
  return yargs
    .option('network', { type: 'string', describe: 'Name of the network to take part in' })
    .option('mdns', { type: 'boolean', describe: 'Find nodes on the local network (--no-mdns: do not)' })
    .option('bootstrap', { type: 'string', array: true, describe: 'Address of a node to meet, /ip4/…/p2p/…' })
}

export function swarmOverrides({ network, mdns, bootstrap }: SwarmArguments): ConfigOverrides {
  const given = Object.entries({ name: network, mdns, bootstrap }).filter(([, value]) => value !== undefined)
  return given.length === 0 ? {} : { network: Object.fromEntries(given) }
}
