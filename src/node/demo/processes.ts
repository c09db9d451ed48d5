import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type ErrorCode, LlmNodeError } from '../../base/errors.ts'

const ENTRY_POINT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../cli/main.ts' : '../../cli/main.js', import.meta.url),
)
/** A process that ignores the polite request is ended after this. */
const STOP_GRACE_MS = 5_000

export interface CliProcess {
  readonly pid: number
  /** The first line on stdout, parsed. Throws with the process's own last words when it ends before. */
  readonly firstLine: Promise<Record<string, unknown>>
  /** Resolves with the exit code when the process has ended. */
  readonly exited: Promise<number | null>
  /** Ends it in the middle of whatever it does (SIGKILL). */
  kill(): void
  /** Asks it to end (SIGTERM), insists after a while, resolves when it has gone. */
  stop(): Promise<void>
}

/**
 * Starts `llm-node …args` as a process of its own that ends when this one does (its stdin is ours to close) or when
 * `signal` fires.
 */
export function startCli(args: readonly string[], signal: AbortSignal): CliProcess {
  signal.throwIfAborted()
  const child = spawn(process.execPath, [ENTRY_POINT, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
  const onAbort = () => child.kill('SIGTERM')
  signal.addEventListener('abort', onAbort)
  const lastWords: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    lastWords.push(line)
    if (lastWords.length > 20) lastWords.shift()
  })
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  exited.then(() => signal.removeEventListener('abort', onAbort))
  const firstLine = readFirstLine(child, exited, () => lastWords.join('\n'), args[0] ?? '').catch((error) => {
    throw signal.aborted ? signal.reason : error
  })
  // Whoever only waits for the exit need not also handle a missing answer.
  firstLine.catch(() => {})
  return {
    pid: child.pid ?? 0,
    firstLine,
    exited,
    kill: () => void child.kill('SIGKILL'),
    async stop() {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS)
      await exited
      clearTimeout(timer)
    },
  }
}

/** The JSON answer of a verb that runs to its end. Throws when it failed. */
export async function answerOf(child: CliProcess): Promise<Record<string, unknown>> {
  const answer = await child.firstLine
  await child.exited
  return answer
}

async function readFirstLine(
  child: ChildProcess,
  exited: Promise<number | null>,
  lastWords: () => string,
  verb: string,
): Promise<Record<string, unknown>> {
  if (child.stdout === null) throw new LlmNodeError('INTERNAL', 'The process has no output.')
  const line = await new Promise<string | undefined>((resolve) => {
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
    lines.once('line', resolve)
    exited.then(() => resolve(undefined))
  })
  const answer = line === undefined ? undefined : (JSON.parse(line) as Record<string, unknown>)
  const error = answer?.error as { code: ErrorCode; message: string } | undefined
  if (answer === undefined || error !== undefined) {
    const reason = error?.message ?? 'it ended without an answer.'
    throw new LlmNodeError(error?.code ?? 'INTERNAL', `llm-node ${verb} failed: ${reason}`, {
      cause: new Error(lastWords()),
    })
  }
  return answer
}
