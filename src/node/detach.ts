import { type SpawnOptions, spawn } from 'node:child_process'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { type ErrorCode, LlmNodeError } from '../base/errors.ts'
import type { Home } from './home.ts'
import type { ReadyState } from './serve.ts'

/** The program itself: what this process was started with. */
function entryPoint(): string[] {
  return [...process.execArgv, process.argv[1] ?? '']
}

/**
 * Starts the node as a process of its own that outlives this one; its log goes to the home's log file. Resolves when it
 * serves. `args`: what follows `start`, without --detach. Throws what the node could not start for.
 */
export async function startDetached(home: Home, args: readonly string[]): Promise<ReadyState> {
  await mkdir(dirname(home.logFile), { recursive: true })
  const log = await open(home.logFile, 'a', 0o600)
  const options: SpawnOptions = { detached: true, stdio: ['ignore', 'pipe', log.fd] }
  const child = spawn(process.execPath, [...entryPoint(), 'start', ...args, '--json'], options)
  await log.close()
  const { stdout } = child
  if (stdout === null) throw new LlmNodeError('INTERNAL', 'The process has no output.')
  const line = await new Promise<string | undefined>((resolve) => {
    createInterface({ input: stdout }).once('line', resolve)
    child.once('close', () => resolve(undefined))
    child.once('error', () => resolve(undefined))
  })
  stdout.destroy()
  child.unref()
  const said = parse(line)
  if (said?.error !== undefined) {
    const { code, message, hint } = said.error
    throw new LlmNodeError(code, message, hint === null ? {} : { hint })
  }
  if (said?.pid !== undefined) return said as ReadyState
  throw new LlmNodeError('INTERNAL', 'The node ended before it was ready.', {
    hint: `Its log says why: llm-node logs (${home.logFile})`,
  })
}

interface Said extends Partial<ReadyState> {
  readonly error?: { readonly code: ErrorCode; readonly message: string; readonly hint: string | null }
}

function parse(line: string | undefined): Said | undefined {
  try {
    return JSON.parse(line ?? 'null') ?? undefined
  } catch {
    return undefined
  }
}

/** A unit for `systemctl --user`: the same command, started with the session and after a failure. */
export function systemdUnit(args: readonly string[]): string {
  const command = [process.execPath, ...entryPoint(), 'start', ...args].map(quote).join(' ')
  return `[Unit]
Description=llm-node
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=${command}
Restart=on-failure
RestartSec=5
KillSignal=SIGTERM
TimeoutStopSec=30
NoNewPrivileges=true

[Install]
WantedBy=default.target
`
}

/** systemd reads double quotes and backslashes as a shell does, and % as its own. */
function quote(word: string): string {
  const text = word.replaceAll('%', '%%')
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `"${text.replaceAll(/["\\$]/g, '\\$&')}"`
}
