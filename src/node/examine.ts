import type { Config } from '../base/config.ts'
import { detectMachine } from './detect.ts'
import { type CheckResult, runDoctor } from './doctor.ts'
import { type MachineDeps, machineChecks } from './doctor-machine.ts'
import { type NetworkDeps, networkChecks, tryMulticast } from './doctor-network.ts'
import { type Home, loadConfig } from './home.ts'

export type ExamineDeps = MachineDeps & NetworkDeps

export const realExamineDeps: ExamineDeps = {
  nodeVersion: process.versions.node,
  detect: (folder) => detectMachine({ folder }),
  nowMs: () => Date.now(),
  multicast: tryMulticast,
  fetch: (input, init) => fetch(input, init),
}

/** Everything that `doctor` looks at, side by side, in at most 5 s. Never throws for what it finds. */
export async function examine(
  home: Home,
  signal: AbortSignal,
  deps: ExamineDeps = realExamineDeps,
): Promise<readonly CheckResult[]> {
  const config: Config | undefined = await loadConfig(home, { env: process.env }).catch(() => undefined)
  const checks = [...machineChecks(deps), ...networkChecks(deps)]
  return runDoctor(checks, { home, config }, { signal })
}
