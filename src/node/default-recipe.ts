import { readFile } from 'node:fs/promises'
import type { ModelEntry } from '../base/config.ts'

/** i8 where the processor multiplies bytes natively, otherwise q4 (engine.md §3). */
export async function defaultRecipe(): Promise<ModelEntry['recipe']> {
  const flags = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  // x86: VNNI or AMX. ARM: dot product (asimddp) or i8mm. Elsewhere nothing is known, and q4 is right everywhere.
  return /\b(avx512_vnni|avx_vnni|amx_int8|asimddp|i8mm)\b/.test(flags) ? 'i8' : 'q4'
}
