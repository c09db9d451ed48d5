import type { ComponentLogger, Logger } from '@libp2p/interface'

const quiet: Logger = Object.assign(() => {}, { enabled: false, error() {}, trace() {}, newScope: () => quiet })

/**
 * libp2p makes a logger for every stream, and asks three times with each whether stderr is a terminal: a tenth of what a
 * short stream costs. So it has its own only where somebody reads it: with DEBUG in the environment (`DEBUG='libp2p:*'`).
 */
export function libp2pLogger(debug: string | undefined): { logger?: ComponentLogger } {
  return debug === undefined || debug === '' ? { logger: { forComponent: () => quiet } } : {}
}
