/** Reads what the kernel's text files say. Pure: text in, plain data out; undefined where the text says nothing. */

export interface CpuInfo {
  readonly model: string | null
  /** Names as /proc/cpuinfo writes them: avx512_vnni, asimddp, … */
  readonly features: ReadonlySet<string>
}

/** /proc/cpuinfo: "flags" on x86, "Features" on ARM; the first processor speaks for all. */
export function parseCpuInfo(text: string): CpuInfo {
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim()
  const features = field('flags') ?? field('Features') ?? ''
  return {
    model: field('model name') ?? field('Model') ?? null,
    features: new Set(features.split(/\s+/).filter((name) => name !== '')),
  }
}

/** Multiplies bytes natively. x86: VNNI or AMX; ARM: dot product (asimddp) or i8mm. Elsewhere nothing is known. */
export function multipliesBytes({ features }: CpuInfo): boolean {
  return ['avx512_vnni', 'avx_vnni', 'amx_int8', 'asimddp', 'i8mm'].some((name) => features.has(name))
}

/** /proc/meminfo, in bytes. MemAvailable is what can be had without swapping. */
export function parseMemInfo(text: string): { readonly totalBytes: number; readonly freeBytes: number } | undefined {
  const field = (name: string) => {
    const match = new RegExp(`^${name}:\\s*(\\d{1,15}) kB`, 'm').exec(text)
    return match === null ? undefined : Number(match[1]) * 1024
  }
  const totalBytes = field('MemTotal')
  const freeBytes = field('MemAvailable') ?? field('MemFree')
  return totalBytes === undefined || freeBytes === undefined ? undefined : { totalBytes, freeBytes }
}

/** The process's groups from /proc/self/cgroup; "/" where a controller is not named. */
export interface CgroupPaths {
  /** Unified hierarchy (v2). */
  readonly unified: string
  readonly memory: string | undefined
  readonly cpu: string | undefined
}

export function parseCgroupPaths(text: string): CgroupPaths {
  let unified = '/'
  let memory: string | undefined
  let cpu: string | undefined
  for (const line of text.split('\n')) {
    const match = /^\d+:([^:]*):(\/.*)$/.exec(line)
    const [, controllers = '', path = '/'] = match ?? []
    if (match === null) continue
    const names = controllers.split(',')
    if (controllers === '') unified = path
    if (names.includes('memory')) memory = path
    if (names.includes('cpu')) cpu = path
  }
  return { unified, memory, cpu }
}

/** A limit or counter of a cgroup: undefined for "max", for v1's huge number that means none, and for nonsense. */
export function parseCgroupBytes(text: string | undefined): number | undefined {
  const match = /^(\d{1,20})\s*$/.exec(text ?? '')
  if (match === null) return undefined
  const value = Number(match[1])
  // v1 writes 2^63 rounded down to a page for "no limit".
  return value >= 2 ** 60 ? undefined : value
}

/** One field of memory.stat in bytes; 0 when it is not there. */
export function parseMemoryStat(text: string | undefined, field: string): number {
  const match = new RegExp(`^${field} (\\d{1,18})$`, 'm').exec(text ?? '')
  return match === null ? 0 : Number(match[1])
}

/** Processors that a quota is worth; undefined: no quota. v2 `cpu.max` is "quota period" or "max period". */
export function parseCpuMax(text: string | undefined): number | undefined {
  const match = /^(\d{1,15}) (\d{1,15})\s*$/.exec(text ?? '')
  const quota = Number(match?.[1])
  const period = Number(match?.[2])
  return match !== null && quota > 0 && period > 0 ? quota / period : undefined
}

/** What `nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits` prints: one line per GPU, in MiB. */
export function parseNvidiaSmi(text: string): { readonly name: string; readonly memoryBytes: number | null }[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(.+?),\s*(\d{1,9}|\[.*\])\s*$/.exec(line.trim())
    if (match === null) return []
    const mebibytes = Number(match[2])
    return [{ name: match[1] ?? '', memoryBytes: Number.isFinite(mebibytes) ? mebibytes * 1_048_576 : null }]
  })
}

export interface Battery {
  readonly discharging: boolean
  readonly percent: number | null
}

/** One folder of /sys/class/power_supply; undefined when it is no battery of this machine (a mouse has one too). */
export function parsePowerSupply(read: (file: string) => string | undefined): Battery | undefined {
  if (read('type')?.trim() !== 'Battery' || read('scope')?.trim() === 'Device') return undefined
  const percent = Number(read('capacity')?.trim() || Number.NaN)
  return {
    discharging: read('status')?.trim() === 'Discharging',
    percent: Number.isInteger(percent) && percent >= 0 && percent <= 100 ? percent : null,
  }
}
