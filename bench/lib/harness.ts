/** What every bench shares: flags, machine and commit, the table, the last line for programs. */
import { execFileSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'

export interface BenchOptions {
  /** At most 60 s in all. */
  readonly quick: boolean
  /** The last line is one JSON object. */
  readonly json: boolean
}

export function benchOptions(args: readonly string[] = process.argv.slice(2)): BenchOptions {
  return { quick: args.includes('--quick'), json: args.includes('--json') }
}

/** For example "2 × AMD EPYC 9R14, 24 GB, node v24.21.0". */
function describeMachine(): string {
  const processors = cpus()
  return `${processors.length} × ${processors[0]?.model.trim()}, ${Math.round(totalmem() / 1e9)} GB, node ${process.version}`
}

export function currentCommit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return 'unknown'
  }
}

/** Prints the closing lines of a bench: where it ran, and with --json its figures as one object. */
export function reportFigures(bench: string, figures: Readonly<Record<string, number>>, options: BenchOptions): void {
  const machine = describeMachine()
  const commit = currentCommit()
  console.log(`\n${machine}, commit ${commit}`)
  if (options.json) console.log(JSON.stringify({ bench, figures, machine, commit }))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Nearest-rank quantile; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}
