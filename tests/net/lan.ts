import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)
/** Of iproute2. */
const IP = 'ip'

/** A LAN of its own: network namespaces joined by a bridge, cut off from this machine's network. Linux, root. */
export interface TestLan {
  /** IPv4 address of machine `i`, from 0. */
  addressOf(i: number): string
  /** Words before a command that make it run on machine `i`. */
  prefixOf(i: number): string[]
  /** Starts a program on machine `i`; it is killed with the LAN. */
  spawn(i: number, command: string, args: readonly string[]): ChildProcess
  /** Pulls the cable of machine `i`, or plugs it in again. */
  setCable(i: number, connected: boolean): Promise<void>
  /** Ends the programs and removes every trace. Idempotent. */
  remove(): Promise<void>
}

/** Why no LAN can be made here, or null when one can. */
export function lanUnavailable(): string | null {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  const name = `llm-probe-${randomBytes(3).toString('hex')}`
  if (spawnSync(IP, ['-V']).error) return 'needs iproute2'
  if (spawnSync(IP, ['netns', 'add', name]).status !== 0) return 'may not make network namespaces'
  const joined = spawnSync(IP, ['-n', name, 'link', 'add', 'probe', 'type', 'bridge']).status === 0
  spawnSync(IP, ['netns', 'del', name])
  return joined ? null : 'may not make bridges'
}

export async function createLan(options: { machines: number }): Promise<TestLan> {
  const id = randomBytes(3).toString('hex')
  const hub = `llm-${id}-hub`
  const names = Array.from({ length: options.machines }, (_, i) => `llm-${id}-${i}`)
  const children = new Set<ChildProcess>()
  // Also when the test run itself is cut off: links and bridge go with their namespaces.
  const removeAll = () => {
    for (const child of children) child.kill('SIGKILL')
    for (const name of [...names, hub]) spawnSync(IP, ['netns', 'del', name], { stdio: 'ignore' })
  }
  process.once('exit', removeAll)
  const remove = async () => {
    process.removeListener('exit', removeAll)
    const ended = [...children].map((child) => new Promise((resolve) => child.once('exit', resolve)))
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(ended)
    removeAll()
  }
  try {
    await ip('netns', 'add', hub)
    await ip('-n', hub, 'link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0')
    await ip('-n', hub, 'link', 'set', 'br0', 'up')
    for (const [i, name] of names.entries()) await plugIn(hub, name, i)
  } catch (error) {
    await remove()
    throw error
  }
  return {
    addressOf: (i) => addressOf(i),
    prefixOf: (i) => ['ip', 'netns', 'exec', names[i] ?? ''],
    spawn(i, command, args) {
      const name = names[i] ?? ''
      const child = spawn(IP, ['netns', 'exec', name, command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    },
    setCable: (i, connected) => ip('-n', hub, 'link', 'set', `port${i}`, connected ? 'up' : 'down'),
    remove,
  }
}

async function plugIn(hub: string, name: string, i: number): Promise<void> {
  await ip('netns', 'add', name)
  await ip('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', `port${i}`, 'netns', hub)
  await ip('-n', hub, 'link', 'set', `port${i}`, 'master', 'br0', 'up')
  await ip('-n', name, 'addr', 'add', `${addressOf(i)}/24`, 'dev', 'eth0')
  await ip('-n', name, 'link', 'set', 'lo', 'up')
  await ip('-n', name, 'link', 'set', 'eth0', 'up')
  // Multicast leaves by the default route, which every home network has.
  await ip('-n', name, 'route', 'add', 'default', 'dev', 'eth0')
}

function addressOf(i: number): string {
  return `192.168.77.${i + 1}`
}

async function ip(...args: string[]): Promise<void> {
  await run(IP, args)
}

/** Namespaces of this helper that are left, for the test of its own cleanliness. */
export function leftovers(): string[] {
  const names = execFileSync(IP, ['netns', 'list'], { encoding: 'utf8' }).split('\n')
  return names.filter((name) => /^llm-[0-9a-f]{6}-/.test(name))
}
