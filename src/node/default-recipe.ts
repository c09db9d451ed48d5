import { readFile } from 'node:fs/promises'
import type { ModelEntry } from '../base/config.ts'
import { multipliesBytes, parseCpuInfo } from './detect-parsers.ts'

/** i8 where the processor multiplies bytes natively, otherwise q4 (engine.md §3). */
export async function defaultRecipe(): Promise<ModelEntry['recipe']> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  return multipliesBytes(parseCpuInfo(text)) ? 'i8' : 'q4'
}
