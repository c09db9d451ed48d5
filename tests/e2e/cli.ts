/** Runs the real `llm-node` in processes of its own, with homes that go away afterwards. */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('../..', import.meta.url))
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
  /** Whatever hangs ends after so many ms, so that a failed test leaves nothing behind; default: two minutes, a node six. */
  readonly lifeMs?: number
}

export interface CliProcess {
  readonly pid: number
  readonly stdout: string
  readonly stderr: string
  /** Resolves when its stdout holds `text`; throws when it ends before. */
  seen(text: string): Promise<void>
  readonly ended: Promise<CliResult>
  /** It has ended. */
  readonly over: boolean
  kill(signal: NodeJS.Signals): void
}

const LIFE_MS = 120_000
/** Of a node, which is there for a whole test: longer than the longest of them. */
export const NODE_LIFE_MS = 360_000

export function spawnCli(args: readonly string[], { env, prefix = [], lifeMs = LIFE_MS }: CliOptions = {}): CliProcess {
  const [command = process.execPath, ...rest] = [...prefix, process.execPath, entryPoint, ...args]
  // Settings of whoever runs the tests must not change what the command does.
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LLM_NODE_')))
  // Nobody's router is to hear of a test; in a network namespace there is none but the test's own.
  const alone = prefix.length > 0 ? {} : { LLM_NODE_UPNP: 'false' }
  const child = spawn(command, rest, { env: { ...clean, ...alone, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output.stdout += chunk
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    output.stderr += chunk
  })
  let over = false
  const timer = setTimeout(() => child.kill('SIGKILL'), lifeMs)
  const ended = new Promise<CliResult>((resolve) => {
    child.once('close', (code) => {
      clearTimeout(timer)
      over = true
      resolve({ code, ...output })
    })
  })
  return {
    pid: child.pid ?? 0,
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    seen: (text) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (output.stdout.includes(text)) resolve()
        }
        child.stdout.on('data', look)
        look()
        ended.then(({ stderr }) => reject(new Error(`llm-node ${args.join(' ')} ended:\n${output.stdout}${stderr}`)))
      }),
    ended,
    get over() {
      return over
    },
    kill: (signal) => child.kill(signal),
  }
}

/** Runs a verb to its end. */
export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return spawnCli(args, options).ended
}

/** Runs a verb with --json and gives its object; throws with its stderr when it failed. */
export async function runJson<T>(args: readonly string[], options: CliOptions = {}): Promise<T> {
  const { code, stdout, stderr } = await runCli([...args, '--json'], options)
  if (code !== 0) throw new Error(`llm-node ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
  return JSON.parse(stdout) as T
}

export interface StartedNode extends CliProcess {
  readonly address: string
  /** Multiaddrs with /p2p/PEERID. */
  readonly listening: readonly string[]
  readonly apiUrl: string
  readonly home: string
}

/** `llm-node start` until it says that it is ready. */
export async function startNode(home: string, args: readonly string[], options: CliOptions = {}): Promise<StartedNode> {
  const child = spawnCli(['start', '--home', home, '--json', ...args], { lifeMs: NODE_LIFE_MS, ...options })
  try {
    await child.seen('\n')
  } catch (error) {
    throw new Error(`start failed: ${error}`)
  }
  const { pid, address, listening, apiUrl, error } = JSON.parse(child.stdout)
  if (error !== undefined) throw new Error(`start failed: ${child.stdout}${(await child.ended).stderr}`)
  return Object.defineProperties(child, {
    pid: { value: pid },
    address: { value: address },
    listening: { value: listening },
    apiUrl: { value: apiUrl },
    home: { value: home },
  }) as StartedNode
}

export interface Sandbox {
  /** A folder below the sandbox that is not made yet. */
  home(name: string): string
  /** The same, made. */
  folder(name: string): Promise<string>
  /** Ends with the sandbox. */
  track<P extends CliProcess>(child: P): P
  close(): Promise<void>
}

export async function createSandbox(): Promise<Sandbox> {
  const root = await mkdtemp(join(tmpdir(), 'llm-node-e2e-'))
  const children: CliProcess[] = []
  return {
    home: (name) => join(root, name),
    async folder(name) {
      await mkdir(join(root, name), { recursive: true })
      return join(root, name)
    },
    track(child) {
      children.push(child)
      return child
    },
    async close() {
      for (const child of children) child.kill('SIGKILL')
      await Promise.all(children.map((child) => child.ended))
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

/** Command lines of living processes that name `text` (Linux; elsewhere none are seen). */
export async function processesOf(text: string): Promise<string[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(text)).map((line) => line.replaceAll('\0', ' '))
}

export interface ExpectedAnswer {
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly greedy_ids: readonly number[]
  readonly answer_ids: readonly number[]
  readonly answer: string
}

/** What transformers answers to `question`, from the model's own folder. */
export async function expectedAnswer(question: string): Promise<ExpectedAnswer> {
  const { cases } = JSON.parse(await readFile(join(demoModel, 'expected.json'), 'utf8')) as { cases: ExpectedAnswer[] }
  const found = cases.find(({ messages }) => messages.length === 1 && messages[0]?.content === question)
  if (found === undefined) throw new Error(`expected.json has no "${question}"`)
  return found
}
