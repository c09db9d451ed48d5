import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../base/config.ts'
import { detectMachine, detectMemory, detectNow, type Machine, type MachineNow, type MemoryNow } from './detect.ts'
import type { Home } from './home.ts'

/** What of a machine its owner leaves to the node (config `share`). */

const MIB = 1_048_576

/** The machine as far as this node may use it: no more memory, processors and disk than its share. */
export async function detectShare(home: Home, config: Pick<Config, 'share' | 'engine'>): Promise<Machine> {
  const [machine, usedBytes] = await Promise.all([
    detectMachine({ folder: home.modelsFolder }),
    usedByModels(home, config),
  ])
  return shareOf(machine, config, usedBytes)
}

/** The same of what changes while a node runs. */
export async function detectShareNow(home: Home, config: Pick<Config, 'share'>): Promise<MachineNow> {
  const [machine, usedBytes] = await Promise.all([detectNow({ folder: home.modelsFolder }), usedByModels(home, config)])
  return shareOfNow(machine, config, usedBytes)
}

/** Pure. `usedBytes`: what the node's models take of the disk already. */
export function shareOf(machine: Machine, config: Pick<Config, 'share' | 'engine'>, usedBytes: number): Machine {
  const { cpu } = machine
  const cores = Math.min(cpu.cores, config.engine.threads ?? cpu.cores)
  return { ...machine, ...shareOfNow(machine, config, usedBytes), cpu: { ...cpu, cores } }
}

function shareOfNow(
  { memory, disk, battery }: MachineNow,
  config: Pick<Config, 'share'>,
  usedBytes: number,
): MachineNow {
  const { diskMiB } = config.share
  const left = diskMiB === null ? Number.POSITIVE_INFINITY : Math.max(0, diskMiB * MIB - usedBytes)
  return {
    memory: shareOfMemory(memory, config, 0),
    disk: disk === null ? null : { ...disk, freeBytes: Math.min(disk.freeBytes, left) },
    battery,
  }
}

/** Counted only where a share of the disk is set. */
async function usedByModels(home: Home, { share }: Pick<Config, 'share'>): Promise<number> {
  return share.diskMiB === null ? 0 : folderBytes(home.modelsFolder)
}

/** Memory for the moment before something is loaded; what this process has taken counts against its share. */
export async function detectMemoryShare(config: Pick<Config, 'share'>): Promise<MemoryNow> {
  return shareOfMemory(await detectMemory(), config, process.memoryUsage.rss())
}

function shareOfMemory(memory: MemoryNow, { share }: Pick<Config, 'share'>, takenBytes: number): MemoryNow {
  if (share.memoryMiB === null || share.memoryMiB * MIB >= memory.totalBytes) return memory
  const totalBytes = share.memoryMiB * MIB
  const freeBytes = Math.min(memory.freeBytes, Math.max(0, totalBytes - takenBytes))
  return { totalBytes, freeBytes, limitedBy: 'share' }
}

async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        (found) => (found.isFile() ? found.size : 0),
        () => 0,
      ),
    ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
