import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { createLan, type TestLan } from '../net/lan.ts'
import { listNamespaces, namespacesUnavailable } from '../net/namespaces.ts'
import type { SwarmReport } from '../net/swarm.process.ts'

const reason = namespacesUnavailable()
const program = fileURLToPath(new URL('../net/swarm.process.ts', import.meta.url))
let lan: TestLan | undefined
afterEach(async () => {
  await lan?.remove()
  // Others may be under way beside this test.
  if (reason === null) expect(listNamespaces().filter(({ pid }) => pid === process.pid)).toEqual([])
})

/** A node on a machine of the LAN: what it said last, and waiting for what it says next. */
interface Machine {
  readonly last: SwarmReport | undefined
  until(check: (report: SwarmReport) => boolean, withinMs: number): Promise<SwarmReport>
  leave(): Promise<void>
  kill(): void
}

function startMachine(on: TestLan, i: number, args: readonly string[]): Machine {
  const child = on.spawn(i, process.execPath, [program, ...args])
  let last: SwarmReport | undefined
  const waiting = new Set<() => void>()
  if (child.stdout === null) throw new Error('no stdout')
  createInterface({ input: child.stdout }).on('line', (line) => {
    last = JSON.parse(line) as SwarmReport
    for (const wake of waiting) wake()
  })
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  return {
    get last() {
      return last
    },
    until: (check, withinMs) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(wake)
          reject(new Error(`machine ${i}: not true within ${withinMs} ms: ${JSON.stringify(last)}`))
        }, withinMs)
        const wake = () => {
          if (last === undefined || !check(last)) return
          clearTimeout(timer)
          waiting.delete(wake)
          resolve(last)
        }
        waiting.add(wake)
        wake()
      }),
    async leave() {
      child.stdin?.end()
      await exited
    },
    kill: () => void child.kill('SIGKILL'),
  }
}

const reachable = (report: SwarmReport) =>
  report.peers.filter((peer) => peer.addrs.length > 0).map((peer) => peer.start)
const knows =
  (...starts: number[]) =>
  (report: SwarmReport) =>
    starts.every((start) => reachable(report).includes(start)) && reachable(report).length === starts.length

describe.skipIf(reason !== null)(`nodes on a LAN${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  it('find each other without a server or a setting, and no other network', async () => {
    lan = await createLan({ machines: 4 })
    const a = startMachine(lan, 0, ['home', '0', '4'])
    const b = startMachine(lan, 1, ['home', '4', '8'])
    const c = startMachine(lan, 2, ['home', '8', '12'])
    const stranger = startMachine(lan, 3, ['office', '0', '12'])
    await Promise.all([a, b, c, stranger].map((machine) => machine.until(() => true, 40_000)))
    const startMs = performance.now()
    await Promise.all([a.until(knows(4, 8), 40_000), b.until(knows(0, 8), 40_000), c.until(knows(0, 4), 40_000)])
    // biome-ignore lint/suspicious/noConsole: the figure is part of what this test is for.
    console.info(
      `three nodes on a LAN knew each other ${(performance.now() - startMs).toFixed(0)} ms after the last one was up`,
    )
    expect(a.last?.addrs.every((addr) => addr.includes(lan?.addressOf(0) ?? '-'))).toBe(true)
    const late = startMachine(lan, 3, ['home', '12', '16'])
    await late.until(() => true, 40_000)
    const lateMs = performance.now()
    await Promise.all([late.until(knows(0, 4, 8), 20_000), a.until(knows(4, 8, 12), 20_000)])
    // biome-ignore lint/suspicious/noConsole: as above.
    console.info(`a late one ${(performance.now() - lateMs).toFixed(0)} ms after its start`)
    expect(stranger.last?.peers).toEqual([])
    await b.leave()
    await a.until(knows(8, 12), 5_000)
    c.kill()
    await a.until(knows(12), 20_000)
  })

  it('notice a machine whose cable is pulled, and have it back', async () => {
    lan = await createLan({ machines: 2 })
    const a = startMachine(lan, 0, ['home', '0', '4'])
    startMachine(lan, 1, ['home', '4', '8'])
    await a.until(knows(4), 40_000)
    await lan.setCable(1, false)
    await a.until(knows(), 30_000)
    await lan.setCable(1, true)
    await a.until(knows(4), 30_000)
  }, 120_000)
})
