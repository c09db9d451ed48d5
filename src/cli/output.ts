import { toLlmNodeError } from '../base/errors.ts'
import { exitCodeOf } from './exit-codes.ts'

/** One JSON object on stdout, nothing else. */
export function printJson(verb: string, body: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify({ schema: `llm-node/${verb}/1`, ...body })}\n`)
}

export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** Progress and notices: stderr, so that stdout stays the answer. */
export function printNotice(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** What happened, what to do next, the code in brackets; a stack only with `debug`. Returns the exit code. */
export function reportError(thrown: unknown, options: { debug: boolean; json: boolean; verb: string }): number {
  const error = toLlmNodeError(thrown)
  if (options.json) {
    printJson(options.verb, { error: { code: error.code, message: error.message, hint: error.hint ?? null } })
  }
  printNotice(`llm-node: ${error.message} (${error.code})`)
  if (error.hint !== undefined) printNotice(`  ${error.hint}`)
  if (options.debug) {
    for (let at: unknown = error; at instanceof Error; at = at.cause) printNotice(at.stack ?? at.message)
  }
  return exitCodeOf(error.code)
}

/** Columns padded to their widest cell; numbers (strings of digits) are not treated specially: pad them before. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    widths
      .map((width, column) => (cells[column] ?? '').padEnd(width))
      .join('  ')
      .trimEnd()
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

/** "1.4 MB": powers of ten, as disks and networks count. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`
}

/** "pg6mmjiy…": enough of an address to tell peers apart in a table. */
export function shortAddress(address: string): string {
  return address.length <= 16 ? address : `${address.slice(0, 8)}….llm`
}
