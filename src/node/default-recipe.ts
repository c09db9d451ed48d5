import { readFile } from 'node:fs/promises'
import type { Config, ModelEntry } from '../base/config.ts'
import { multipliesBytes, parseCpuInfo } from './detect-parsers.ts'

/** i8 where the processor multiplies bytes natively, otherwise q4, and for a GPU (engine.md §3, §5). */
export async function defaultRecipe(provider: Config['engine']['provider'] = 'cpu'): Promise<ModelEntry['recipe']> {
  if (provider === 'cuda') return 'q4'
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  return multipliesBytes(parseCpuInfo(text)) ? 'i8' : 'q4'
}
