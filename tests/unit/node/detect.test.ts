import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { detectMachine, detectMemory } from '../../../src/node/detect.ts'
import {
  multipliesBytes,
  parseCgroupBytes,
  parseCgroupPaths,
  parseCpuInfo,
  parseCpuMax,
  parseMemInfo,
  parseNvidiaSmi,
  parsePowerSupply,
} from '../../../src/node/detect-parsers.ts'
import { tempFolder } from '../../helpers/temp-folder.ts'

const MIB = 1_048_576
const GIB = 1024 * MIB
const memInfo = (total: number, available: number) =>
  `MemTotal:       ${total / 1024} kB\nMemFree:          100 kB\nMemAvailable:   ${available / 1024} kB\n`

/** A root folder with these files. */
async function tree(files: Readonly<Record<string, string>>): Promise<string> {
  const root = await tempFolder()
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

describe('memory', () => {
  test('is the machine’s where nothing limits it', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(16 * GIB, 9 * GIB),
      'proc/self/cgroup': '0::/user.slice/session.scope\n',
      'sys/fs/cgroup/user.slice/memory.max': 'max\n',
    })
    expect(await detectMemory(root)).toEqual({ totalBytes: 16 * GIB, freeBytes: 9 * GIB, limitedBy: 'machine' })
  })

  test('respects a limit of cgroup v2, file pages that can go not counted', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(16 * GIB, 9 * GIB),
      'proc/self/cgroup': '0::/system.slice/node.service\n',
      'sys/fs/cgroup/system.slice/node.service/memory.max': `${GIB}\n`,
      'sys/fs/cgroup/system.slice/node.service/memory.current': `${700 * MIB}\n`,
      'sys/fs/cgroup/system.slice/node.service/memory.stat': `anon 1\nfile 9\ninactive_file ${200 * MIB}\n`,
    })
    expect(await detectMemory(root)).toEqual({ totalBytes: GIB, freeBytes: 524 * MIB, limitedBy: 'cgroup' })
  })

  test('takes the tightest of the groups above, and the free memory of each', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(16 * GIB, 9 * GIB),
      'proc/self/cgroup': '0::/a/b\n',
      'sys/fs/cgroup/a/b/memory.max': `${2 * GIB}\n`,
      'sys/fs/cgroup/a/b/memory.current': '0\n',
      'sys/fs/cgroup/a/memory.max': `${3 * GIB}\n`,
      'sys/fs/cgroup/a/memory.current': `${2.5 * GIB}\n`,
    })
    expect(await detectMemory(root)).toEqual({ totalBytes: 2 * GIB, freeBytes: 0.5 * GIB, limitedBy: 'cgroup' })
  })

  test('respects cgroup v1 inside a container, where the named path is not there', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(16 * GIB, 9 * GIB),
      'proc/self/cgroup': '5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': `${GIB}\n`,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': `${300 * MIB}\n`,
      'sys/fs/cgroup/memory/memory.stat': `cache 5\ntotal_inactive_file ${100 * MIB}\n`,
    })
    expect(await detectMemory(root)).toEqual({ totalBytes: GIB, freeBytes: 824 * MIB, limitedBy: 'cgroup' })
  })

  test('v1 without a limit is no limit', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(4 * GIB, 3 * GIB),
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    })
    expect(await detectMemory(root)).toMatchObject({ totalBytes: 4 * GIB, limitedBy: 'machine' })
  })

  test('is never below zero when a group is over its limit', async () => {
    const root = await tree({
      'proc/meminfo': memInfo(4 * GIB, 3 * GIB),
      'sys/fs/cgroup/memory.max': `${GIB}\n`,
      'sys/fs/cgroup/memory.current': `${2 * GIB}\n`,
    })
    expect(await detectMemory(root)).toMatchObject({ totalBytes: GIB, freeBytes: 0 })
  })
})

describe('machine', () => {
  test('reads processor, quota, GPU and battery from the tree', async () => {
    const root = await tree({
      'proc/cpuinfo': 'model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n',
      'proc/meminfo': memInfo(4 * GIB, 3 * GIB),
      'proc/self/cgroup': '0::/\n',
      'sys/fs/cgroup/cpu.max': '100000 100000\n',
      'proc/driver/nvidia/gpus/0000:01:00.0/information': 'Model: \t\t NVIDIA T4\nIRQ: 1\n',
      'sys/class/drm/card0/device/mem_info_vram_total': `${8 * GIB}\n`,
      'sys/class/power_supply/AC/type': 'Mains\n',
      'sys/class/power_supply/BAT0/type': 'Battery\n',
      'sys/class/power_supply/BAT0/status': 'Discharging\n',
      'sys/class/power_supply/BAT0/capacity': '40\n',
    })
    const machine = await detectMachine({ root, folder: join(root, 'not', 'there', 'yet') })
    expect(machine.cpu).toMatchObject({ model: 'Some CPU', cores: 1 })
    expect(machine.cpu.features.has('avx512_vnni')).toBe(true)
    expect(machine.gpus).toEqual([
      { name: 'NVIDIA T4', memoryBytes: null },
      { name: 'AMD', memoryBytes: 8 * GIB },
    ])
    expect(machine.battery).toEqual({ discharging: true, percent: 40 })
    expect(machine.disk?.freeBytes).toBeGreaterThan(0)
  })

  test('an empty tree gives a machine, not an error', async () => {
    const machine = await detectMachine({ root: await tempFolder(), folder: '/' })
    expect(machine).toMatchObject({ gpus: [], battery: null, cpu: { model: null } })
    expect(machine.memory.totalBytes).toBeGreaterThan(0)
    expect(machine.cpu.cores).toBeGreaterThanOrEqual(1)
  })

  test('this machine', async () => {
    const { cpu, memory } = await detectMachine({ folder: '.' })
    expect(cpu.cores).toBeGreaterThanOrEqual(1)
    expect(memory.freeBytes).toBeGreaterThan(0)
    expect(memory.freeBytes).toBeLessThanOrEqual(memory.totalBytes)
  })
})

describe('parsers', () => {
  test('know which processors multiply bytes', () => {
    const has = (line: string) => multipliesBytes(parseCpuInfo(line))
    expect(has('flags : avx2 avx_vnni')).toBe(true)
    expect(has('flags : avx2 avx512f')).toBe(false)
    expect(has('Features : fp asimd asimddp')).toBe(true)
    expect(has('')).toBe(false)
  })

  test('read quotas, batteries and graphics cards', () => {
    expect(parseCpuMax('150000 100000\n')).toBe(1.5)
    expect(parseCpuMax('max 100000\n')).toBeUndefined()
    expect(parseCpuMax('-1 100000')).toBeUndefined()
    const mouse: Record<string, string> = { type: 'Battery\n', scope: 'Device\n' }
    expect(parsePowerSupply((file) => mouse[file])).toBeUndefined()
    expect(parseNvidiaSmi('Tesla T4, 15360\nTesla T4, [N/A]\n\n')).toEqual([
      { name: 'Tesla T4', memoryBytes: 15_360 * MIB },
      { name: 'Tesla T4', memoryBytes: null },
    ])
  })

  test('never fail on any text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        parseCpuInfo(text)
        parseMemInfo(text)
        parseCgroupPaths(text)
        parseNvidiaSmi(text)
        const bytes = parseCgroupBytes(text)
        expect(bytes === undefined || Number.isSafeInteger(bytes) || bytes < 2 ** 60).toBe(true)
      }),
    )
  })
})
