import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printLine } from '../output.ts'

interface LogsArguments extends GlobalArguments {
  follow: boolean
  lines: number
}

export const logsCommand: CommandModule<GlobalArguments, LogsArguments> = {
  command: 'logs',
  describe: 'The log of a node started with --detach',
  builder: (yargs): Argv<LogsArguments> =>
    yargs
      .option('follow', { type: 'boolean', alias: 'f', default: false, describe: 'Go on until Ctrl-C' })
      .option('lines', { type: 'number', alias: 'n', default: 50, describe: 'Lines to begin with' }),
  async handler(argv) {
    const { readLog } = await import('../../node/read-log.ts')
    const { lines, follow, json } = argv
    for await (const line of readLog(homeOf(argv), { lines, follow, signal: interruptSignal() })) {
      printLine(json ? line : readable(line))
    }
  },
}

const levels: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' }

/** "05:12:33 warn  sentence key=value"; what is no JSON line stays as it is. */
function readable(line: string): string {
  let entry: unknown
  try {
    entry = JSON.parse(line)
  } catch {
    return line
  }
  if (typeof entry !== 'object' || entry === null) return line
  const { time, level, msg, ...facts } = entry as Record<string, unknown>
  const at = typeof time === 'number' ? `${new Date(time).toISOString().slice(11, 19)} ` : ''
  const name = (levels[Number(level)] ?? '').padEnd(5)
  const rest = Object.entries(facts).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return `${at}${name} ${[msg ?? '', ...rest].join(' ')}`.trimEnd()
}
