import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { lanUnavailable } from './netns.ts'

const run = promisify(execFile)

/**
 * A small internet in network namespaces, cut off from this machine's: servers with public addresses of their own, and home
 * networks behind routers that masquerade and let nothing in. libp2p takes documentation ranges for private ones, so
 * addresses are of 11.0.0.0/8; each server and router has its own first 16 bits, as AutoNAT and route choice look at them.
 */
export interface TestInternet {
  serverAddress(server: number): string
  machineAddress(lan: number, machine: number): string
  routerAddress(lan: number): string
  /** Words before a command that make it run there. */
  onServer(server: number): string[]
  onMachine(lan: number, machine: number): string[]
  onRouter(lan: number): string[]
  /** Runs iptables in the router of a home network, or on a server. */
  router(lan: number, ...rule: string[]): Promise<void>
  firewall(server: number, ...rule: string[]): Promise<void>
  spawn(prefix: readonly string[], command: string, args: readonly string[]): ChildProcess
  /** Ends the programs and removes every trace. Idempotent. */
  remove(): Promise<void>
}

export function internetUnavailable(): string | null {
  const reason = lanUnavailable()
  if (reason !== null) return reason
  return spawnSync('iptables', ['-V']).error === undefined ? null : 'needs iptables'
}

export async function createInternet(options: { servers: number; lans: readonly number[] }): Promise<TestInternet> {
  const id = randomBytes(3).toString('hex')
  const core = `llm-${id}-core`
  const server = (i: number) => `llm-${id}-s${i}`
  const router = (lan: number) => `llm-${id}-r${lan}`
  const machine = (lan: number, i: number) => `llm-${id}-m${lan}-${i}`
  const names = [
    core,
    ...Array.from({ length: options.servers }, (_, i) => server(i)),
    ...options.lans.flatMap((n, lan) => [router(lan), ...Array.from({ length: n }, (_, i) => machine(lan, i))]),
  ]
  const children = new Set<ChildProcess>()
  const removeAll = () => {
    for (const child of children) child.kill('SIGKILL')
    for (const name of names) spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
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
    for (const name of names) await ip('netns', 'add', name)
    for (const name of names) await ip('-n', name, 'link', 'set', 'lo', 'up')
    await within(core, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
    for (let i = 0; i < options.servers; i++) await attach(core, server(i), serverNet(i))
    for (const [lan, machines] of options.lans.entries()) {
      await attach(core, router(lan), routerNet(lan))
      await createHome(
        router(lan),
        lan,
        Array.from({ length: machines }, (_, i) => machine(lan, i)),
      )
    }
  } catch (error) {
    await remove()
    throw error
  }
  return {
    serverAddress: (i) => `11.${serverNet(i)}.0.2`,
    machineAddress: (lan, i) => machineAddress(lan, i),
    routerAddress: (lan) => `11.${routerNet(lan)}.0.2`,
    onServer: (i) => ['ip', 'netns', 'exec', server(i)],
    onMachine: (lan, i) => ['ip', 'netns', 'exec', machine(lan, i)],
    onRouter: (lan) => ['ip', 'netns', 'exec', router(lan)],
    router: (lan, ...rule) => within(router(lan), 'iptables', ...rule),
    firewall: (i, ...rule) => within(server(i), 'iptables', ...rule),
    spawn([head = '', ...rest], command, args) {
      const child = spawn(head, [...rest, command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    },
    remove,
  }
}

const serverNet = (i: number) => 10 + i
const routerNet = (lan: number) => 100 + lan
const machineAddress = (lan: number, i: number) => `192.168.${10 + lan}.${2 + i}`

/** A cable from the middle to `name`, which gets 11.NET.0.2 and goes everywhere else by way of 11.NET.0.1. */
async function attach(core: string, name: string, net: number): Promise<void> {
  await ip('link', 'add', 'wan', 'netns', name, 'type', 'veth', 'peer', 'name', `net${net}`, 'netns', core)
  await ip('-n', core, 'addr', 'add', `11.${net}.0.1/16`, 'dev', `net${net}`)
  await ip('-n', core, 'link', 'set', `net${net}`, 'up')
  await ip('-n', name, 'addr', 'add', `11.${net}.0.2/16`, 'dev', 'wan')
  await ip('-n', name, 'link', 'set', 'wan', 'up')
  await ip('-n', name, 'route', 'add', 'default', 'via', `11.${net}.0.1`)
}

async function createHome(router: string, lan: number, machines: readonly string[]): Promise<void> {
  const subnet = `192.168.${10 + lan}`
  await within(router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
  await ip('-n', router, 'link', 'add', 'name', 'br0', 'type', 'bridge', 'mcast_snooping', '0')
  await ip('-n', router, 'addr', 'add', `${subnet}.1/24`, 'dev', 'br0')
  await ip('-n', router, 'link', 'set', 'br0', 'up')
  await within(router, 'iptables', '-t', 'nat', '-A', 'POSTROUTING', '-o', 'wan', '-j', 'MASQUERADE')
  const answers = ['-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT']
  await within(router, 'iptables', '-A', 'FORWARD', '-i', 'wan', ...answers)
  await within(router, 'iptables', '-A', 'FORWARD', '-i', 'wan', '-j', 'DROP')
  for (const [i, name] of machines.entries()) {
    await ip('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', `port${i}`, 'netns', router)
    await ip('-n', router, 'link', 'set', `port${i}`, 'master', 'br0', 'up')
    await ip('-n', name, 'addr', 'add', `${machineAddress(lan, i)}/24`, 'dev', 'eth0')
    await ip('-n', name, 'link', 'set', 'eth0', 'up')
    await ip('-n', name, 'route', 'add', 'default', 'via', `${subnet}.1`)
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args)
}

async function within(name: string, command: string, ...args: string[]): Promise<void> {
  await run('ip', ['netns', 'exec', name, command, ...args])
}
