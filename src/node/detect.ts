import { execFile } from 'node:child_process'
import { readdir, readFile, statfs } from 'node:fs/promises'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import {
  type Battery,
  parseCgroupBytes,
  parseCgroupPaths,
  parseCpuInfo,
  parseCpuMax,
  parseMemInfo,
  parseMemoryStat,
  parseNvidiaSmi,
  parsePowerSupply,
} from './detect-parsers.ts'

export interface Gpu {
  readonly name: string
  readonly memoryBytes: number | null
}

export interface MemoryNow {
  /** What this process may use in all: the machine's memory, or a smaller limit of its control group. */
  readonly totalBytes: number
  /** Can be had now without swapping, within the same limit. */
  readonly freeBytes: number
  readonly limitedBy: 'machine' | 'cgroup' | 'share'
}

/** This machine as far as it matters for holding layers. */
export interface Machine {
  readonly cpu: {
    readonly model: string | null
    /** Processors that this process may use, quotas considered; at least 1. */
    readonly cores: number
    readonly features: ReadonlySet<string>
  }
  readonly memory: MemoryNow
  /** Of the file system that holds the models; null when it cannot be asked. */
  readonly disk: { readonly totalBytes: number; readonly freeBytes: number } | null
  readonly gpus: readonly Gpu[]
  /** Null: none. */
  readonly battery: Battery | null
}

export interface DetectOptions {
  /** Where /proc and /sys begin; tests bring a tree of their own. */
  readonly root?: string
  /** Anything on the file system where models will lie; it need not exist yet. */
  readonly folder: string
}

/** What changes while a node runs. */
export type MachineNow = Pick<Machine, 'memory' | 'disk' | 'battery'>

const GPU_TOOL_MS = 2_000

/** Reads only; takes milliseconds, up to 2 s where nvidia-smi is slow. Never throws: what cannot be read is left out. */
export async function detectMachine(options: DetectOptions): Promise<Machine> {
  const root = options.root ?? '/'
  const [now, cpu, gpus] = await Promise.all([
    detectNow(options),
    detectCpu(root, options.root === undefined),
    detectGpus(root, options.root === undefined),
  ])
  return { ...now, cpu, gpus }
}

/** Without processor and graphics cards, which stay: takes milliseconds, starts no program. Never throws. */
export async function detectNow({ root = '/', folder }: DetectOptions): Promise<MachineNow> {
  const [memory, disk, battery] = await Promise.all([detectMemory(root), detectDisk(folder), detectBattery(root)])
  return { memory, disk, battery }
}

async function detectCpu(root: string, real: boolean): Promise<Machine['cpu']> {
  const { model, features } = parseCpuInfo((await read(root, 'proc/cpuinfo')) ?? '')
  const quota = await cpuQuota(root)
  const cores = Math.min(availableParallelism(), quota ?? Number.POSITIVE_INFINITY)
  return { model: model ?? (real ? (cpus()[0]?.model ?? null) : null), cores: Math.max(1, Math.ceil(cores)), features }
}

/** Memory alone, for the moment before something large is loaded. */
export async function detectMemory(root = '/'): Promise<MemoryNow> {
  const machine = parseMemInfo((await read(root, 'proc/meminfo')) ?? '') ?? {
    totalBytes: totalmem(),
    freeBytes: process.availableMemory?.() ?? freemem(),
  }
  let { totalBytes, freeBytes } = machine
  let limitedBy: MemoryNow['limitedBy'] = 'machine'
  for (const group of await memoryGroups(root)) {
    if (group.limitBytes >= machine.totalBytes) continue
    if (group.limitBytes < totalBytes) {
      totalBytes = group.limitBytes
      limitedBy = 'cgroup'
    }
    freeBytes = Math.min(freeBytes, Math.max(0, group.limitBytes - group.usedBytes))
  }
  return { totalBytes, freeBytes, limitedBy }
}

interface MemoryGroup {
  readonly limitBytes: number
  /** Without file pages that the kernel would give up first. */
  readonly usedBytes: number
}

/** Every group with a limit, from the process's own up to the root: each of them can end the process. */
async function memoryGroups(root: string): Promise<MemoryGroup[]> {
  const paths = parseCgroupPaths((await read(root, 'proc/self/cgroup')) ?? '')
  const v2 = ancestors('sys/fs/cgroup', paths.unified).map((folder) =>
    memoryGroup(root, folder, { limit: 'memory.max', used: 'memory.current', cache: 'inactive_file' }),
  )
  const v1 = ancestors('sys/fs/cgroup/memory', paths.memory ?? '/').map((folder) =>
    memoryGroup(root, folder, {
      limit: 'memory.limit_in_bytes',
      used: 'memory.usage_in_bytes',
      cache: 'total_inactive_file',
    }),
  )
  return (await Promise.all([...v2, ...v1])).filter((group) => group !== undefined)
}

async function memoryGroup(
  root: string,
  folder: string,
  files: { limit: string; used: string; cache: string },
): Promise<MemoryGroup | undefined> {
  const limitBytes = parseCgroupBytes(await read(root, join(folder, files.limit)))
  if (limitBytes === undefined) return undefined
  const used = parseCgroupBytes(await read(root, join(folder, files.used))) ?? 0
  const cache = parseMemoryStat(await read(root, join(folder, 'memory.stat')), files.cache)
  return { limitBytes, usedBytes: Math.max(0, used - cache) }
}

/** The smallest quota of the group and those above it. */
async function cpuQuota(root: string): Promise<number | undefined> {
  const paths = parseCgroupPaths((await read(root, 'proc/self/cgroup')) ?? '')
  const quotas: number[] = []
  for (const folder of ancestors('sys/fs/cgroup', paths.unified)) {
    const quota = parseCpuMax(await read(root, join(folder, 'cpu.max')))
    if (quota !== undefined) quotas.push(quota)
  }
  for (const folder of ancestors('sys/fs/cgroup/cpu', paths.cpu ?? '/')) {
    const quota = (await read(root, join(folder, 'cpu.cfs_quota_us')))?.trim()
    const period = (await read(root, join(folder, 'cpu.cfs_period_us')))?.trim()
    const cores = parseCpuMax(`${quota} ${period}`)
    if (cores !== undefined) quotas.push(cores)
  }
  return quotas.length === 0 ? undefined : Math.min(...quotas)
}

/** `base`/a/b, `base`/a, `base`. In a container the path may name what only the host sees; the base is there anyway. */
function ancestors(base: string, path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..')
  return Array.from({ length: parts.length + 1 }, (_, i) => join(base, ...parts.slice(0, parts.length - i)))
}

async function detectDisk(folder: string): Promise<Machine['disk']> {
  for (let at = folder; ; at = dirname(at)) {
    const found = await statfs(at).catch(() => undefined)
    if (found !== undefined) return { totalBytes: found.blocks * found.bsize, freeBytes: found.bavail * found.bsize }
    if (at === dirname(at)) return null
  }
}

async function detectGpus(root: string, real: boolean): Promise<Gpu[]> {
  const drivers = await list(root, 'proc/driver/nvidia/gpus')
  if (drivers.length > 0 && real) {
    const asked = parseNvidiaSmi(await askNvidiaSmi('memory.total'))
    if (asked.length > 0) return asked
  }
  const nvidia = await Promise.all(
    drivers.map(async (name): Promise<Gpu> => {
      const text = await read(root, join('proc/driver/nvidia/gpus', name, 'information'))
      return { name: /^Model:\s*(.+)$/m.exec(text ?? '')?.[1]?.trim() ?? 'NVIDIA', memoryBytes: null }
    }),
  )
  // Only drivers that say how much memory the card has of its own: a screen's chip is no help here.
  const cards = (await list(root, 'sys/class/drm')).filter((name) => /^card\d+$/.test(name))
  const others = await Promise.all(
    cards.map(async (name): Promise<Gpu[]> => {
      const memoryBytes = parseCgroupBytes(await read(root, join('sys/class/drm', name, 'device/mem_info_vram_total')))
      return memoryBytes === undefined ? [] : [{ name: 'AMD', memoryBytes }]
    }),
  )
  return [...nvidia, ...others.flat()]
}

/** Free memory of the first NVIDIA GPU; null when nobody can say. */
export async function detectGpuFree(): Promise<number | null> {
  return parseNvidiaSmi(await askNvidiaSmi('memory.free'))[0]?.memoryBytes ?? null
}

function askNvidiaSmi(amount: 'memory.total' | 'memory.free'): Promise<string> {
  const args = [`--query-gpu=name,${amount}`, '--format=csv,noheader,nounits']
  return new Promise((resolve) => {
    execFile('nvidia-smi', args, { timeout: GPU_TOOL_MS }, (error, stdout) => resolve(error === null ? stdout : ''))
  })
}

async function detectBattery(root: string): Promise<Battery | null> {
  for (const name of await list(root, 'sys/class/power_supply')) {
    const files = new Map<string, string | undefined>()
    for (const file of ['type', 'scope', 'status', 'capacity']) {
      files.set(file, await read(root, join('sys/class/power_supply', name, file)))
    }
    const battery = parsePowerSupply((file) => files.get(file))
    if (battery !== undefined) return battery
  }
  return null
}

async function read(root: string, path: string): Promise<string | undefined> {
  return readFile(join(root, path), 'utf8').catch(() => undefined)
}

async function list(root: string, path: string): Promise<string[]> {
  return readdir(join(root, path)).catch(() => [])
}
