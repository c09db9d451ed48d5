import type { Argv } from 'yargs'
import type { ConfigOverrides } from '../base/config.ts'
import { type Home, locateHome } from '../node/home.ts'

/** Options that every verb takes. */
export interface GlobalArguments {
  home?: string | undefined
  json: boolean
  debug: boolean
}

export function addGlobalOptions(yargs: Argv): Argv<GlobalArguments> {
  return yargs
    .option('home', { type: 'string', describe: 'Folder for everything this node keeps (or LLM_NODE_HOME)' })
    .option('json', { type: 'boolean', default: false, describe: 'One JSON object on stdout' })
    .option('debug', { type: 'boolean', default: false, describe: 'Stack traces with errors' })
}

export function homeOf(argv: GlobalArguments): Home {
  return locateHome(argv.home, process.env)
}

export type ProviderName = 'cpu' | 'cuda' | 'auto'

/** Of every verb that loads an engine. */
export const providerOption = {
  choices: ['cpu', 'cuda', 'auto'] as const,
  describe: 'What computes; auto: a GPU where one can be used',
} as const

/** Flags of the verbs that run a node in this process. */
export interface NodeArguments {
  network?: string | undefined
  mdns?: boolean | undefined
  bootstrap?: string[] | undefined
  host?: string | undefined
  port?: number | undefined
  apiHost?: string | undefined
  apiPort?: number | undefined
  relay?: boolean | undefined
  cadence?: number | undefined
  threads?: number | undefined
  provider?: ProviderName | undefined
  logLevel?: string | undefined
}

export function addNodeOptions<T>(yargs: Argv<T>): Argv<T & NodeArguments> {
  return yargs
    .option('network', { type: 'string', describe: 'Name of the network to take part in' })
    .option('mdns', { type: 'boolean', describe: 'Find nodes on the local network (--no-mdns: do not)' })
    .option('bootstrap', { type: 'string', array: true, describe: 'Address of a node to meet, /ip4/…/p2p/…' })
    .option('host', { type: 'string', describe: 'Address to listen on for peers' })
    .option('port', { type: 'number', describe: 'TCP port for peers (0: any)' })
    .option('api-host', { type: 'string', describe: 'Address of the HTTP API; on others than loopback it needs a key' })
    .option('api-port', { type: 'number', describe: 'Port of the HTTP API (0: any)' })
    .option('relay', { type: 'boolean', describe: 'Forward circuits for others (--no-relay: do not)' })
    .option('cadence', { type: 'number', describe: 'Hide the rhythm of tokens: one frame every so many ms' })
    .option('threads', { type: 'number', describe: 'Threads for computing' })
    .option('provider', providerOption)
    .option('log-level', { type: 'string', describe: 'silent, error, warn, info, debug or trace' })
}

/** The flags that were given, as configuration overrides; absent ones leave file and environment in force. */
export function overridesOf(argv: NodeArguments): ConfigOverrides {
  const given = (values: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
  return {
    network: given({
      name: argv.network,
      mdns: argv.mdns,
      bootstrap: argv.bootstrap,
      host: argv.host,
      port: argv.port,
      relay: argv.relay,
    }),
    privacy: given({ cadenceMs: argv.cadence }),
    engine: given({ threads: argv.threads, provider: argv.provider }),
    api: given({ host: argv.apiHost, port: argv.apiPort }),
    log: given({ level: argv.logLevel }),
  }
}
