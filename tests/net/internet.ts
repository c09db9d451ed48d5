import { type ChildProcess, spawnSync } from 'node:child_process'
import { createNamespaces, ip, type Namespaces, namespacesUnavailable } from './namespaces.ts'

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
  const reason = namespacesUnavailable()
  if (reason !== null) return reason
  return spawnSync('iptables', ['-V']).error === undefined ? null : 'needs iptables'
}

const CORE = 'core'
const server = (i: number) => `s${i}`
const router = (lan: number) => `r${lan}`
const machine = (lan: number, i: number) => `m${lan}-${i}`

export async function createInternet(options: { servers: number; lans: readonly number[] }): Promise<TestInternet> {
  const servers = Array.from({ length: options.servers }, (_, i) => server(i))
  const homes = options.lans.map((n, lan) => Array.from({ length: n }, (_, i) => machine(lan, i)))
  const routers = homes.map((_, lan) => router(lan))
  const made = await createNamespaces([CORE, ...servers, ...routers, ...homes.flat()], async (all) => {
    await within(all.of(CORE), 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
    for (const [i, name] of servers.entries()) await attach(all, name, serverNet(i))
    for (const [lan, machines] of homes.entries()) {
      await attach(all, router(lan), routerNet(lan))
      await createHome(all.of(router(lan)), lan, machines.map(all.of))
    }
  })
  return {
    serverAddress: (i) => `11.${serverNet(i)}.0.2`,
    machineAddress,
    routerAddress: (lan) => `11.${routerNet(lan)}.0.2`,
    onServer: (i) => made.prefix(server(i)),
    onMachine: (lan, i) => made.prefix(machine(lan, i)),
    onRouter: (lan) => made.prefix(router(lan)),
    router: (lan, ...rule) => within(made.of(router(lan)), 'iptables', ...rule),
    firewall: (i, ...rule) => within(made.of(server(i)), 'iptables', ...rule),
    spawn: made.spawn,
    remove: made.remove,
  }
}

const serverNet = (i: number) => 10 + i
const routerNet = (lan: number) => 100 + lan
const machineAddress = (lan: number, i: number) => `192.168.${10 + lan}.${2 + i}`

/** A cable from the middle to `short`, which gets 11.NET.0.2 and goes everywhere else by way of 11.NET.0.1. */
async function attach(all: Namespaces, short: string, net: number): Promise<void> {
  const core = all.of(CORE)
  const name = all.of(short)
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

async function within(name: string, command: string, ...args: string[]): Promise<void> {
  await ip('netns', 'exec', name, command, ...args)
}
