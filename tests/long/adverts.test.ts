/** Many node processes on one machine: who knows whom, and how soon. LLM_TEST_NODES: how many, 30 by default. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import type { AdvertReport } from './adverts.process.ts'

const COUNT = Number(process.env.LLM_TEST_NODES ?? 30)
const THIRD = Math.floor(COUNT / 3)
const LAYERS = 32
const program = fileURLToPath(new URL('adverts.process.ts', import.meta.url))

interface Node {
  readonly child: ChildProcess
  readonly startMs: number
  /** Everything it has said; the last line counts. */
  readonly reports: AdvertReport[]
}

const running: Node[] = []
/** Also of those that are killed: they remove nothing themselves. */
const home = await mkdtemp(join(tmpdir(), 'llm-long-'))
let started = 0

function start(bootstrap: readonly string[]): Node {
  const first = String((4 * started++) % LAYERS)
  const child = spawn(process.execPath, [program, home, bootstrap.join(), first], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const node: Node = { child, startMs: Date.now(), reports: [] }
  createInterface({ input: child.stdout }).on('line', (line) => node.reports.push(JSON.parse(line)))
  running.push(node)
  return node
}

afterAll(async () => {
  for (const { child } of running) child.kill('SIGKILL')
  await Promise.all(
    running.map(({ child }) =>
      child.exitCode === null && child.signalCode === null ? new Promise((r) => child.once('close', r)) : 0,
    ),
  )
  await rm(home, { recursive: true, force: true })
})

async function until(check: () => boolean, withinMs: number, what: string): Promise<number> {
  const startMs = Date.now()
  while (!check()) {
    if (Date.now() - startMs > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return Date.now() - startMs
}

const last = (node: Node) => node.reports.at(-1)
const addressOf = (node: Node) => last(node)?.address ?? ''
const knows = (node: Node) => new Set(Object.keys(last(node)?.peers ?? {}))

/** Who lacks whom, and who still sees whom, each as the beginnings of two addresses. */
function disagreements(nodes: readonly Node[]): string[] {
  const all = new Set(nodes.map(addressOf))
  const name = (address: string) => address.slice(0, 6)
  return nodes.flatMap((node) => {
    const seen = knows(node)
    const own = addressOf(node)
    const lacks = [...all].filter((address) => address !== own && !seen.has(address))
    const ghosts = [...seen].filter((address) => !all.has(address))
    return [
      ...lacks.map((address) => `${name(own)} lacks ${name(address)}`),
      ...ghosts.map((address) => `${name(own)} still sees ${name(address)}`),
    ]
  })
}

/** Every one of `nodes` sees exactly the others. */
const agree = (nodes: readonly Node[]) => disagreements(nodes).length === 0

async function startMany(count: number, bootstrap: readonly string[]): Promise<Node[]> {
  const nodes = Array.from({ length: count }, () => start(bootstrap))
  await until(() => nodes.every((node) => last(node) !== undefined), 180_000, 'all have started')
  return nodes
}

test(`${COUNT} nodes: a newcomer, sudden deaths, and many who come at once`, { timeout: 900_000 }, async () => {
  const [seed] = await startMany(1, [])
  const entrance = (seed === undefined ? undefined : last(seed)?.addrs) ?? []
  let alive = running.slice()
  alive.push(...(await startMany(COUNT - 1, entrance)))
  say(`all know each other after ${await until(() => agree(alive), 120_000, 'all know each other')} ms`)

  const newcomer = start(entrance)
  await until(() => newcomer.reports.some(({ connections }) => connections > 0), 60_000, 'it connects')
  await until(() => coversAll(newcomer), 10_000, 'it knows who holds what')
  const connectedMs = newcomer.reports.find(({ connections }) => connections > 0)?.atMs ?? 0
  const coveredMs = newcomer.reports.find(({ peers }) => new Set(Object.values(peers)).size === heldStarts())?.atMs ?? 0
  say(`a newcomer knew the coverage ${coveredMs - connectedMs} ms after its first connection`)
  expect(coveredMs - connectedMs).toBeLessThanOrEqual(3_000)
  alive.push(newcomer)
  await until(() => agree(alive), 30_000, 'the newcomer is known')

  const killed = alive.splice(1, THIRD)
  for (const { child } of killed) child.kill('SIGKILL')
  const ghosts = killed.map(addressOf)
  const noGhosts = () => alive.every((node) => ghosts.every((address) => !knows(node).has(address)))
  say(`${THIRD} killed were gone from all views after ${await until(noGhosts, 120_000, 'no ghosts')} ms`)

  alive = [...alive, ...(await startMany(THIRD, entrance))]
  await new Promise((resolve) => setTimeout(resolve, 30_000))
  expect(disagreements(alive)).toEqual([])

  const [leaving] = alive.splice(1, 1)
  leaving?.child.stdin?.end()
  const gone = () => alive.every((node) => !knows(node).has(leaving === undefined ? '' : addressOf(leaving)))
  say(`one that left was gone after ${await until(gone, 2_000, 'it has left')} ms`)
})

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** How many different spans there are. */
function heldStarts(): number {
  return Math.min(started - 1, LAYERS / 4)
}

function coversAll(node: Node): boolean {
  return node.reports.some(({ peers }) => new Set(Object.values(peers)).size === heldStarts())
}
