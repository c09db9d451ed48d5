/** A swarm of real processes that break on purpose: three spans, two nodes each, and an entry that must not notice. */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AskRequest, AskResult, CoverageBody } from '../../src/api/types.ts'
import { connectAdmin } from '../../src/node/admin-client.ts'
import type { Fault } from '../../src/node/faults.ts'
import { locateHome } from '../../src/node/home.ts'
import { runJson, type StartedNode } from '../e2e/cli.ts'
import { createSwarm, eventually, oneThread, type Swarm } from '../e2e/swarm.ts'
import { processState } from '../helpers/process-state.ts'

export const spans = ['first', 'middle', 'last'] as const
export type SpanName = (typeof spans)[number]
const layersOf = { first: '0-3', middle: '4-7', last: '8-11' } as const

export interface ChaosCase {
  readonly span: SpanName
  readonly fault: Omit<Fault, 'ms'> & { readonly ms?: number }
}

export interface ChaosOutcome {
  readonly result: AskResult
  /** The same question to one process that holds everything. */
  readonly undisturbed: AskResult
  /** The fault happened. */
  readonly struck: boolean
  /** Longest wait between two pieces of text, the first included. */
  readonly gapMs: number
}

export interface ChaosSwarm {
  run(each: ChaosCase): Promise<ChaosOutcome>
  close(): Promise<void>
}

/** They are asked in turn, more of them than circuits are kept for chats that go on: nothing of a prompt is there already. */
const QUESTIONS = 8
/** Its answer repeats itself, so tokens are guessed ahead. */
const questionOf = (number: number) =>
  `Question ${number % QUESTIONS}. ${'A swarm holds the layers of a model and passes rows on. '.repeat(20)}Tell a story.`
const maxTokens = 120

/** `lifeMs`: how long its processes may live. */
export async function createChaosSwarm(options: { readonly lifeMs?: number } = {}): Promise<ChaosSwarm> {
  const swarm = await createSwarm(options)
  const nodes = new Map<string, StartedNode>()
  const names = spans.flatMap((span) => [`${span}-a`, `${span}-b`])
  const fileOf = (span: SpanName) => join(swarm.sandbox.home('faults'), `${span}.json`)
  await swarm.sandbox.folder('faults')
  await Promise.all([
    ...names.map((name) => swarm.setup(name, '--layers', layersOf[spanOf(name)], '--no-ends')),
    swarm.setup('entry', '--layers', 'none'),
    swarm.setup('whole', '--layers', 'all'),
  ])
  const start = async (name: string) => {
    nodes.set(name, await swarm.start(name, '--test-faults', fileOf(spanOf(name)), '--log-level', 'silent'))
  }
  for (const name of names) await start(name)
  nodes.set('entry', await swarm.start('entry', '--log-level', 'silent'))
  const untilWhole = (span: SpanName) =>
    eventually(async () => {
      const { models } = await swarm.get<CoverageBody>('entry', '/api/coverage')
      const [first, last] = layersOf[span].split('-').map(Number)
      const replicas = models[0]?.replicas.slice(first, (last ?? 0) + 1) ?? []
      if (replicas.length < 4 || replicas.some((count) => count < 2)) throw new Error(`replicas: ${replicas}`)
    }, 60_000)
  for (const span of spans) await untilWhole(span)
  /** Spans whose nodes come back: the others are broken meanwhile. */
  const mending = new Map<SpanName, Promise<void>>()
  const alone = new Map<string, Promise<AskResult>>()
  const undisturbed = (question: string) => {
    const known = alone.get(question) ?? askAlone(swarm, question)
    alone.set(question, known)
    return known
  }
  let asked = 0
  return {
    async run({ span, fault }) {
      const file = fileOf(span)
      await mending.get(span)
      await rm(`${file}.struck`, { force: true })
      // The spaces make it another text than the last time.
      await writeFile(file, JSON.stringify(fault) + ' '.repeat(Math.floor(Math.random() * 64)))
      try {
        const question = questionOf(asked++)
        const found = await ask(swarm, question)
        const struck = await readFile(`${file}.struck`, 'utf8').catch(() => undefined)
        return { ...found, undisturbed: await undisturbed(question), struck: struck !== undefined }
      } finally {
        await rm(file, { force: true })
        const mended = mend(nodes, span, start).then(() => untilWhole(span))
        // Whoever breaks this span next hears of it.
        mended.catch(() => {})
        mending.set(span, mended)
      }
    },
    async close() {
      await Promise.allSettled(mending.values())
      await swarm.close()
    },
  }
}

function spanOf(name: string): SpanName {
  const found = spans.find((span) => name.startsWith(span))
  if (found === undefined) throw new Error(`${name} holds no span`)
  return found
}

/** Ends what stands still and starts again what has ended. */
async function mend(
  nodes: ReadonlyMap<string, StartedNode>,
  span: SpanName,
  start: (name: string) => Promise<void>,
): Promise<void> {
  for (const name of [`${span}-a`, `${span}-b`]) {
    const node = nodes.get(name)
    if (node === undefined) continue
    if (!node.over && processState(node.pid) === 'T') {
      node.kill('SIGKILL')
      await node.ended
    }
    if (node.over) await start(name)
  }
}

function askAlone(swarm: Swarm, question: string): Promise<AskResult> {
  const how = ['--temperature', '0', '--max-tokens', String(maxTokens), '--ignore-end', '--logits-digest']
  return runJson(['ask', question, '--home', swarm.sandbox.home('whole'), '--solo', ...oneThread, ...how])
}

async function ask(swarm: Swarm, prompt: string): Promise<{ result: AskResult; gapMs: number }> {
  const request = { prompt, temperature: 0, maxTokens, ignoreEnd: true, logitsDigest: true } as AskRequest
  const admin = await connectAdmin(locateHome(swarm.sandbox.home('entry'), {}))
  let lastMs = performance.now()
  let gapMs = 0
  for await (const event of admin.ask(request, AbortSignal.timeout(90_000))) {
    // After the last text there may be an audit.
    if (event.type === 'done') return { result: event.result, gapMs }
    if (event.type === 'text') {
      const nowMs = performance.now()
      gapMs = Math.max(gapMs, nowMs - lastMs)
      lastMs = nowMs
    }
    if (event.type === 'error') throw new Error(`${event.error.message} (${event.error.code})`)
  }
  throw new Error('the answer ended without a word')
}
