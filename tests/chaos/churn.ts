/** A swarm of real processes whose nodes come, leave and die while many answers run over it. */
import type { AskEvent, AskRequest, AskResult, CoverageBody, StatusBody } from '../../src/api/types.ts'
import { parseSpan, type Span } from '../../src/base/span.ts'
import { connectAdmin } from '../../src/node/admin-client.ts'
import { locateHome } from '../../src/node/home.ts'
import type { StartedNode } from '../e2e/cli.ts'
import { createSwarm, eventually, type Swarm } from '../e2e/swarm.ts'
import type { Life } from './truth.ts'

/** Layers as `setup` takes them: the last one is included. The core of the middle is lost for some seconds, too. */
const core = { first: '0-3', middle: '4-7', last: '8-11' } as const
const rotating = ['0-3', '4-7', '8-11', '4-7', '0-5', '6-11', '4-7', '8-11'] as const
const entries = { bare: 'none', holding: '0-3' } as const
export type EntryName = keyof typeof entries

export interface ChurnCounts {
  joins: number
  leaves: number
  kills: number
  /** Nodes that said good-bye and did not end with 0. */
  badLeaves: number
}

export interface Churn {
  readonly lives: readonly Life[]
  readonly counts: Readonly<ChurnCounts>
  /** One node comes, leaves or dies; which one says `random`, in [0, 1). */
  strike(second: number, random: () => number): void
  /** Runs a request to its end on a node of the swarm; on `whole` alone and undisturbed. */
  ask(entry: EntryName | 'whole', request: AskRequest, signal: AbortSignal): Promise<Told>
  /** Whoever is starting has started, and whoever leaves has left. */
  settle(): Promise<void>
  /** Nothing of any answer is left at any node that lives. */
  expectIdle(withinMs: number): Promise<readonly string[]>
  close(): Promise<void>
}

/** What came of one request. */
export interface Told {
  readonly result?: AskResult
  readonly error?: { readonly code: string; readonly message: string }
  readonly text: string
  /** Ways that failed, over all, and since the last text. */
  readonly failovers: number
  readonly failoversAtEnd: number
  readonly suspended: number
  readonly beganMs: number
  /** When the last text came, and when it ended. */
  readonly lastTextMs: number
  readonly endedMs: number
}

/** During these seconds everybody who holds the middle goes and nobody comes; then its core comes back. */
const gapFrom = 22
const gapTo = 30

export async function createChurn(): Promise<Churn> {
  const options = { lifeMs: 420_000 }
  const swarm = await createSwarm(options)
  // In a network of its own: nobody may ask it for layers.
  const alone = await createSwarm(options)
  const close = async () => {
    await swarm.close()
    await alone.close()
  }
  try {
    await alone.setup('whole', '--layers', 'all')
    const layersOf = new Map<string, string>([
      ...Object.entries(core),
      ...rotating.map((layers, index) => [`moving-${index}`, layers] as const),
    ])
    for (const [name, layers] of layersOf) await swarm.setup(name, '--layers', layers, '--no-ends')
    for (const [name, layers] of Object.entries(entries)) await swarm.setup(name, '--layers', layers)
    const nodes = createNodes(swarm, layersOf)
    await Promise.all([alone.start('whole', '--log-level', 'silent'), nodes.start('first'), nodes.start('middle')])
    await nodes.start('last')
    await Promise.all(Object.keys(entries).map(nodes.start))
    await Promise.all(rotating.map((_, index) => nodes.start(`moving-${index}`)))
    await nodes.settle()
    await eventually(() => requireWhole(swarm), 60_000)
    return {
      lives: nodes.lives,
      counts: nodes.counts,
      strike: (second, random) => strike(nodes, second, random),
      ask: (name, request, signal) => ask(name === 'whole' ? alone : swarm, name, request, signal),
      settle: nodes.settle,
      expectIdle: (withinMs) => expectIdle(swarm, nodes.alive(), withinMs),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

interface Nodes {
  readonly lives: readonly Life[]
  readonly counts: ChurnCounts
  start(name: string): Promise<void>
  leave(name: string): void
  kill(name: string): void
  /** Names of nodes that are up and stay; of all that run. */
  up(): string[]
  alive(): string[]
  /** Names that could come. */
  down(): string[]
  layersOf(name: string): Span
  settle(): Promise<void>
}

function createNodes(swarm: Swarm, layers: ReadonlyMap<string, string>): Nodes {
  const running = new Map<string, { node?: StartedNode; leaving: boolean }>()
  const lives: { name: string; span: Span; fromMs: number; toMs: number | null }[] = []
  const work = new Set<Promise<void>>()
  const counts: ChurnCounts = { joins: 0, leaves: 0, kills: 0, badLeaves: 0 }
  const endLife = (name: string) => {
    const life = lives.findLast((each) => each.name === name)
    if (life !== undefined) life.toMs ??= performance.now()
  }
  const spanOf = (name: string) => parseSpan(layers.get(name) ?? '0-3')
  const failures: unknown[] = []
  const background = (done: Promise<void>) => {
    const each = done.catch((error) => void failures.push(error)).finally(() => work.delete(each))
    work.add(each)
    return each
  }
  return {
    lives,
    counts,
    start(name) {
      const state: { node?: StartedNode; leaving: boolean } = { leaving: false }
      running.set(name, state)
      return background(
        (async () => {
          state.node = await swarm.start(name, '--log-level', 'silent')
          if (layers.has(name)) lives.push({ name, span: spanOf(name), fromMs: performance.now(), toMs: null })
        })(),
      )
    },
    leave(name) {
      const state = running.get(name)
      if (state?.node === undefined) throw new Error(`${name} is not up`)
      state.leaving = true
      endLife(name)
      state.node.kill('SIGTERM')
      const { ended } = state.node
      void background(
        ended.then(({ code }) => {
          if (code !== 0) counts.badLeaves++
          running.delete(name)
        }),
      )
    },
    kill(name) {
      const node = running.get(name)?.node
      if (node === undefined) throw new Error(`${name} is not up`)
      running.delete(name)
      endLife(name)
      node.kill('SIGKILL')
      void background(node.ended.then(() => {}))
    },
    up: () => [...running].filter(([, { node, leaving }]) => node !== undefined && !leaving).map(([name]) => name),
    alive: () => [...running.keys()],
    down: () => [...layers.keys()].filter((name) => !running.has(name)),
    layersOf: spanOf,
    async settle() {
      while (work.size > 0) await Promise.all(work)
      if (failures.length > 0) throw failures[0]
    },
  }
}

function strike(nodes: Nodes, second: number, random: () => number): void {
  const { counts } = nodes
  const pick = (names: readonly string[]) => names[Math.floor(random() * names.length)]
  const inGap = second >= gapFrom && second < gapTo
  const isMiddle = (name: string) => {
    const { start, end } = nodes.layersOf(name)
    return start < 8 && end > 4
  }
  const mayGo = nodes.up().filter((name) => name.startsWith('moving-') || (inGap && name === 'middle'))
  const middle = mayGo.filter(isMiddle)
  const mayCome = nodes.down().filter((name) => !inGap || !isMiddle(name))
  const going = inGap && middle.length > 0 ? pick(middle) : pick(mayGo)
  const coming = mayCome.includes('middle') ? 'middle' : pick(mayCome)
  if (coming !== undefined && (going === undefined || (second % 2 === 0 && !(inGap && middle.length > 0)))) {
    counts.joins++
    void nodes.start(coming)
  } else if (going !== undefined && (second % 4 === 1 || inGap)) {
    counts.kills++
    nodes.kill(going)
  } else if (going !== undefined) {
    counts.leaves++
    nodes.leave(going)
  }
}

async function requireWhole(swarm: Swarm): Promise<void> {
  for (const name of Object.keys(entries)) {
    const { models } = await swarm.get<CoverageBody>(name, '/api/coverage')
    if (models[0]?.complete !== true) throw new Error(`${name} sees gaps: ${JSON.stringify(models[0]?.gaps)}`)
  }
}

async function ask(swarm: Swarm, name: string, request: AskRequest, signal: AbortSignal): Promise<Told> {
  const admin = await connectAdmin(locateHome(swarm.sandbox.home(name), {}))
  const beganMs = performance.now()
  const told = { text: '', failovers: 0, failoversAtEnd: 0, suspended: 0, beganMs, lastTextMs: beganMs }
  for await (const event of admin.ask(request, signal) as AsyncIterable<AskEvent>) {
    const endedMs = performance.now()
    if (event.type === 'failover') {
      told.failovers++
      told.failoversAtEnd++
    } else if (event.type === 'suspended') told.suspended++
    else if (event.type === 'text') {
      told.text += event.text
      told.failoversAtEnd = 0
      told.lastTextMs = endedMs
    } else if (event.type === 'done') return { ...told, result: event.result, endedMs }
    else if (event.type === 'error') return { ...told, error: event.error, endedMs }
  }
  throw new Error(`an answer of ${name} ended without a word after: ${told.text}`)
}

/** Chats that go on keep their circuits: those end when their hops serve nobody new. What is left then is a leak. */
async function expectIdle(swarm: Swarm, names: readonly string[], withinMs: number): Promise<readonly string[]> {
  for (const name of names) {
    const admin = await connectAdmin(locateHome(swarm.sandbox.home(name), {}))
    await admin.post('/api/pause', {}, AbortSignal.timeout(withinMs))
  }
  await eventually(async () => {
    const busy: object[] = []
    for (const name of names) {
      const { sessions, kvBytes } = await swarm.get<StatusBody>(name, '/api/status')
      if (sessions + kvBytes > 0) busy.push({ name, sessions, kvBytes })
    }
    if (busy.length > 0) throw new Error(`sessions are left: ${JSON.stringify(busy)}`)
  }, withinMs)
  return names
}
