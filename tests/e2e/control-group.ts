/** A control group of the test's own that limits memory, v1 or v2. Linux, root. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface ControlGroup {
  /** Words before a command that make it run in the group. */
  readonly prefix: readonly string[]
  /** Most memory that was in use at once, file pages included; null where the kernel does not tell. */
  mostBytes(): number | null
  /** Processes that were killed for want of memory. */
  kills(): number
  /** All processes in it must have ended. Idempotent. */
  remove(): void
}

const v1 = '/sys/fs/cgroup/memory'
const v2 = '/sys/fs/cgroup'

/** Throws when this machine allows none. */
export function createControlGroup(limitBytes: number): ControlGroup {
  const old = existsSync(join(v1, 'memory.limit_in_bytes'))
  const folder = join(old ? v1 : v2, `llm-node-${randomBytes(4).toString('hex')}`)
  mkdirSync(folder)
  const limit = join(folder, old ? 'memory.limit_in_bytes' : 'memory.max')
  if (!existsSync(limit)) {
    rmdirSync(folder)
    throw new Error('no memory controller')
  }
  writeFileSync(limit, String(limitBytes))
  const count = (file: string, name: string) => {
    const text = existsSync(join(folder, file)) ? readFileSync(join(folder, file), 'utf8') : ''
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
  }
  const peak = join(folder, old ? 'memory.max_usage_in_bytes' : 'memory.peak')
  return {
    prefix: ['sh', '-c', `echo $$ > ${join(folder, 'cgroup.procs')} && exec "$@"`, 'sh'],
    mostBytes: () => (existsSync(peak) ? Number(readFileSync(peak, 'utf8')) : null),
    kills: () => count(old ? 'memory.oom_control' : 'memory.events', 'oom_kill'),
    remove() {
      if (existsSync(folder)) rmdirSync(folder)
    },
  }
}

/** Why none can be made here, or null when one can. */
export function controlGroupUnavailable(): string | null {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    createControlGroup(1_073_741_824).remove()
    return null
  } catch {
    return 'may not make control groups that limit memory'
  }
}
