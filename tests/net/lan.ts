import type { ChildProcess } from 'node:child_process'
import { createNamespaces, ip, type Namespaces } from './namespaces.ts'

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

const HUB = 'hub'

export async function createLan(options: { machines: number }): Promise<TestLan> {
  const machines = Array.from({ length: options.machines }, (_, i) => i)
  const made = await createNamespaces([HUB, ...machines.map(String)], async (all) => {
    await ip('-n', all.of(HUB), 'link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0')
    await ip('-n', all.of(HUB), 'link', 'set', 'br0', 'up')
    for (const i of machines) await plugIn(all, i)
  })
  return {
    addressOf,
    prefixOf: (i) => made.prefix(String(i)),
    spawn: (i, command, args) => made.spawn(made.prefix(String(i)), command, args),
    setCable: (i, connected) => ip('-n', made.of(HUB), 'link', 'set', `port${i}`, connected ? 'up' : 'down'),
    remove: made.remove,
  }
}

async function plugIn(all: Namespaces, i: number): Promise<void> {
  const name = all.of(String(i))
  const hub = all.of(HUB)
  await ip('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', `port${i}`, 'netns', hub)
  await ip('-n', hub, 'link', 'set', `port${i}`, 'master', 'br0', 'up')
  await ip('-n', name, 'addr', 'add', `${addressOf(i)}/24`, 'dev', 'eth0')
  await ip('-n', name, 'link', 'set', 'eth0', 'up')
  // Multicast leaves by the default route, which every home network has.
  await ip('-n', name, 'route', 'add', 'default', 'dev', 'eth0')
}

function addressOf(i: number): string {
  return `192.168.77.${i + 1}`
}
