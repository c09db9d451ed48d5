/** Network namespaces that a test makes for itself, and the programs it starts in them. Linux, root, iproute2. */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { processState } from '../helpers/process-state.ts'

const run = promisify(execFile)

/** Machines and cables cut off from this machine's network. */
export interface Namespaces {
  /** The name of a namespace of this group by its short name. */
  of(short: string): string
  /** Words before a command that make it run there. */
  prefix(short: string): string[]
  /** Starts a program; it is killed with the namespaces. */
  spawn(prefix: readonly string[], command: string, args: readonly string[]): ChildProcess
  /** Ends the programs and removes every trace: links and bridges go with their namespaces. Idempotent. */
  remove(): Promise<void>
}

/** Why no namespaces can be made here, or null when they can. */
export function namespacesUnavailable(): string | null {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  const name = `llm-probe-${randomBytes(3).toString('hex')}`
  if (spawnSync('ip', ['-V']).error) return 'needs iproute2'
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return 'may not make network namespaces'
  const joined = spawnSync('ip', ['-n', name, 'link', 'add', 'probe', 'type', 'bridge']).status === 0
  spawnSync('ip', ['netns', 'del', name])
  return joined ? null : 'may not make bridges'
}

/** Every name says which process made it, so that those of a test run that was killed can be told from those in use. */
const NAME = /^llm-(\d+)-[0-9a-f]{6}-/

/** Makes a namespace for each short name, with loopback up, and sets them up; removes them again if that fails. */
export async function createNamespaces(
  shorts: readonly string[],
  setUp: (made: Namespaces) => Promise<void>,
): Promise<Namespaces> {
  removeAbandoned()
  const id = `llm-${process.pid}-${randomBytes(3).toString('hex')}`
  const of = (short: string) => `${id}-${short}`
  const children = new Set<ChildProcess>()
  const removeAll = () => {
    for (const child of children) child.kill('SIGKILL')
    for (const short of shorts) removeNamespace(of(short))
  }
  process.once('exit', removeAll)
  const made: Namespaces = {
    of,
    prefix: (short) => ['ip', 'netns', 'exec', of(short)],
    spawn([head = '', ...rest], command, args) {
      const child = spawn(head, [...rest, command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    },
    async remove() {
      process.removeListener('exit', removeAll)
      const ended = [...children].map((child) => new Promise((resolve) => child.once('exit', resolve)))
      for (const child of children) child.kill('SIGKILL')
      await Promise.all(ended)
      removeAll()
    },
  }
  try {
    for (const short of shorts) await ip('netns', 'add', of(short))
    for (const short of shorts) await ip('-n', of(short), 'link', 'set', 'lo', 'up')
    await setUp(made)
  } catch (error) {
    await made.remove()
    throw error
  }
  return made
}

export async function ip(...args: string[]): Promise<void> {
  await run('ip', args)
}

/** The namespaces of this helper on this machine, of whatever process. */
export function listNamespaces(): { name: string; pid: number }[] {
  const names = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  return names.split('\n').flatMap((line) => {
    const pid = NAME.exec(line)?.[1]
    return pid === undefined ? [] : [{ name: line.split(' ', 1)[0] ?? '', pid: Number(pid) }]
  })
}

/** What a test run left that was killed: nobody else would ever remove it. */
function removeAbandoned(): void {
  for (const { name, pid } of listNamespaces()) {
    if (isAlive(pid)) continue
    const inside = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean)
    for (const left of inside) tryKill(Number(left))
    removeNamespace(name)
  }
}

function removeNamespace(name: string): void {
  spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
}

/** Whether a process runs; one that has ended and that nobody has asked about does not. */
export function isAlive(pid: number): boolean {
  const state = processState(pid)
  return state !== undefined && state !== 'Z' && state !== 'X'
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Has ended by itself.
  }
}
