import { readFileSync } from 'node:fs'

/** The letter of proc(5): R, S, D, T (stopped), Z (ended, and nobody has asked about it); undefined: there is none. Linux. */
export function processState(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name before it may hold anything.
    return stat.charAt(stat.lastIndexOf(')') + 2)
  } catch {
    return undefined
  }
}
