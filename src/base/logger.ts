import { destination, type Logger as PinoLogger, pino } from 'pino'

export type LogLevel = 'silent' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** What rooms log through. Facts first, then a sentence: `log.info({ span }, 'serving')`. Never keys or prompts. */
export type Logger = Pick<PinoLogger, 'error' | 'warn' | 'info' | 'debug' | 'trace'> & {
  child(bindings: Record<string, unknown>): Logger
}

/** Writes JSON lines to stderr, or to `file`; stdout belongs to the command's answer. */
export function createLogger(options: { level: LogLevel; file?: string }): Logger {
  return pino(
    { level: options.level, base: null },
    destination(options.file === undefined ? { fd: 2, sync: true } : { dest: options.file, sync: false, mkdir: true }),
  )
}

export const silentLogger: Logger = pino({ level: 'silent' })
