/** Runs the real `llm-node` in processes of its own, with homes that go away afterwards. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const repository = fileURLToPath(new URL('../..', import.meta.url))
export const demoModel = join(repository, 'models', 'demo-qwen3')
const entryPoint = join(repository, 'src', 'cli', 'main.ts')

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly env?: NodeJS.ProcessEnv
  /** Words before the command itself, for example `ip netns exec NAME`. */
  readonly prefix?: readonly string[]
}

function spawnCli(args: readonly string[], { env, prefix = [] }: CliOptions): ChildProcess {
  const [command = process.execPath, ...rest] = [...prefix, process.execPath, entryPoint, ...args]
  return spawn(command, rest, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
}

/** Runs a verb to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const child = spawnCli(args, options)
  child.stdin?.end()
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr }
}

/** Runs a verb with --json and gives its object; throws with its stderr when it failed. */
export async function runJson<T>(args: readonly string[], options: CliOptions = {}): Promise<T> {
  const { code, stdout, stderr } = await runCli([...args, '--json'], options)
  if (code !== 0) throw new Error(`llm-node ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
  return JSON.parse(stdout) as T
}

export interface StartedNode {
  readonly pid: number
  readonly address: string
  /** Multiaddrs with /p2p/PEERID. */
  readonly listening: readonly string[]
  readonly home: string
  readonly exited: Promise<number | null>
  stderr(): string
  kill(signal: NodeJS.Signals): void
}

/** `llm-node start` until it says that it is ready. */
export async function startNode(home: string, args: readonly string[], options: CliOptions = {}): Promise<StartedNode> {
  const child = spawnCli(['start', '--home', home, '--json', ...args], options)
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
  const line = await new Promise<string | undefined>((resolve) => {
    if (child.stdout !== null) createInterface({ input: child.stdout }).once('line', resolve)
    exited.then(() => resolve(undefined))
  })
  const ready = line === undefined ? undefined : JSON.parse(line)
  if (ready === undefined || ready.error !== undefined) throw new Error(`start failed: ${line}\n${stderr}`)
  return {
    pid: ready.pid,
    address: ready.address,
    listening: ready.listening,
    home,
    exited,
    stderr: () => stderr,
    kill: (signal) => child.kill(signal),
  }
}

export interface Sandbox {
  /** A fresh folder below the sandbox. */
  home(name: string): string
  /** Ends with the sandbox. */
  track(node: StartedNode): StartedNode
  close(): Promise<void>
}

export async function createSandbox(): Promise<Sandbox> {
  const root = await mkdtemp(join(tmpdir(), 'llm-node-e2e-'))
  const nodes: StartedNode[] = []
  return {
    home: (name) => join(root, name),
    track(node) {
      nodes.push(node)
      return node
    },
    async close() {
      for (const node of nodes) node.kill('SIGKILL')
      await Promise.all(nodes.map((node) => node.exited))
      await rm(root, { recursive: true, force: true })
    },
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
