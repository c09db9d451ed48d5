import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../../src/base/config.ts'
import type { Machine } from '../../../src/node/detect.ts'
import { shareOf } from '../../../src/node/share.ts'

const GIB = 1_073_741_824
const machine: Machine = {
  cpu: { model: null, cores: 8, features: new Set() },
  memory: { totalBytes: 16 * GIB, freeBytes: 10 * GIB, limitedBy: 'machine' },
  disk: { totalBytes: 500 * GIB, freeBytes: 100 * GIB },
  gpus: [],
  battery: null,
}

describe('the share of a machine', () => {
  test('is all of it, unless the owner says otherwise', () => {
    expect(shareOf(machine, parseConfig({}), 0)).toEqual(machine)
  })

  test('limits processors, memory and what the models may take of the disk', () => {
    const config = parseConfig({ share: { memoryMiB: 4_096, diskMiB: 20_480 }, engine: { threads: 3 } })
    const share = shareOf(machine, config, 15 * GIB)
    expect(share.cpu.cores).toBe(3)
    expect(share.memory).toEqual({ totalBytes: 4 * GIB, freeBytes: 4 * GIB, limitedBy: 'share' })
    expect(share.disk?.freeBytes).toBe(5 * GIB)
    expect(shareOf(machine, config, 30 * GIB).disk?.freeBytes).toBe(0)
  })

  test('never makes a machine larger', () => {
    const config = parseConfig({ share: { memoryMiB: 65_536, diskMiB: 1_048_576 }, engine: { threads: 64 } })
    expect(shareOf(machine, config, 0)).toEqual(machine)
  })
})
