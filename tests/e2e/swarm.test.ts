import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AskResult, CoverageBody, GenerationBody, PeerBody, StatusBody } from '../../src/api/types.ts'
import { type ExpectedAnswer, expectedAnswer, runCli, runJson, type StartedNode } from './cli.ts'
import { createSwarm, eventually, oneThread, type Swarm } from './swarm.ts'

const question = 'What is llm-node?'
const greedy = ['--temperature', '0', '--logits-digest']
const nodeNames = ['node1', 'node2', 'node3'] as const

let swarm: Swarm
let expected: ExpectedAnswer
/** The same answer from one process. */
let alone: AskResult
const nodes = new Map<string, StartedNode>()
const addressOf = (name: string) => nodes.get(name)?.address

beforeAll(async () => {
  swarm = await createSwarm()
  expected = await expectedAnswer(question)
  await Promise.all([
    swarm.setup('node1', '--layers', '0-3', '--no-ends'),
    swarm.setup('node2', '--layers', '4-7', '--no-ends'),
    swarm.setup('node3', '--layers', '8-11', '--no-ends'),
    swarm.setup('entry', '--layers', 'none'),
    swarm.setup('single', '--layers', 'all'),
  ])
  alone = await ask('single', '--solo')
  nodes.set('node1', await swarm.start('node1'))
  await Promise.all(['node2', 'node3'].map(async (name) => nodes.set(name, await swarm.start(name))))
})

afterAll(() => swarm?.close())

async function ask(name: string, ...how: string[]): Promise<AskResult> {
  return runJson<AskResult>(['ask', question, ...swarm.as(name), ...oneThread, ...greedy, ...how])
}

/** Spans and addresses of the hops, as "0-4 node1". */
function wayOf({ hops }: AskResult): string[] {
  const nameOf = (address: string | null) =>
    address === null ? 'here' : [...nodes].find(([, node]) => node.address === address)?.[0]
  return hops.map(({ span, address }) => `${span.start}-${span.end} ${nameOf(address)}`)
}

function expectAnswer(answer: AskResult): void {
  expect(answer.tokens).toEqual(expected.answer_ids)
  expect(answer.logitsSha256).toHaveLength(expected.answer_ids.length + 1)
  expect(answer.logitsSha256).toEqual(alone.logitsSha256)
  expect(answer).toMatchObject({ text: expected.answer, finishReason: 'stop', exact: true, failovers: 0 })
}

test('a home that holds only the ends asks the three nodes', async () => {
  const answer = await ask('entry')
  expectAnswer(answer)
  expect(answer).toMatchObject({ schema: 'llm-node/ask/1', profile: 'direct', promptTokens: 13 })
  expect(answer.estimate.split).toBeGreaterThan(0)
  expect(answer.tokensPerSecond).toBeGreaterThan(0)
  expect(wayOf(answer)).toEqual(['0-4 node1', '4-8 node2', '8-12 node3'])
})

test('as text: the answer on stdout, everything else on stderr', async () => {
  const { code, stdout, stderr } = await runCli([
    'ask',
    question,
    ...swarm.as('entry'),
    ...oneThread,
    '--temperature',
    '0',
  ])
  expect({ code, stdout }).toEqual({ code: 0, stdout: `${expected.answer}\n` })
  expect(stderr).toMatch(/layers 0-3 at \S+, 4-7 at \S+, 8-11 at \S+; 34 tokens.*, direct, exact\n$/)
})

test('--explain: the route as it was chosen, with the reasons and the estimate, as text and as JSON', async () => {
  const ask = ['ask', question, ...swarm.as('entry'), ...oneThread, '--temperature', '0', '--explain']
  const { code, stdout, stderr } = await runCli(ask)
  expect({ code, stdout }).toEqual({ code: 0, stdout: `${expected.answer}\n` })
  const lines = stderr.trimEnd().split('\n').slice(-4)
  for (const [index, layers] of ['0-3', '4-7', '8-11'].entries()) {
    const line = `^ {2}layers ${layers} \\S+, [0-9.]+ ms a token, [0-9.]+ ms to it: alone in holding ${layers}$`
    expect(lines[index]).toMatch(new RegExp(line))
  }
  expect(lines[3]).toMatch(/^ {2}estimate: [0-9.]+ tokens\/s over this route$/)
  const { hops, estimate } = await runJson<AskResult>(ask)
  expect(hops.map(({ reason }) => reason)).toEqual(['0-3', '4-7', '8-11'].map((layers) => `alone in holding ${layers}`))
  expect(estimate).toMatchObject({ solo: null, split: expect.any(Number) })
})

test('status, peers and coverage tell the same story everywhere', async () => {
  const home = ['--home', swarm.sandbox.home('node2')]
  await eventually(async () => {
    for (const name of nodeNames) {
      const coverage = await swarm.get<CoverageBody>(name, '/api/coverage')
      const { peers } = await swarm.get<{ peers: PeerBody[] }>(name, '/api/peers')
      const others = nodeNames.filter((other) => other !== name)
      expectCoverage(coverage, name)
      expect(new Set(peers.map((peer) => peer.address))).toEqual(new Set(others.map(addressOf)))
    }
  })
  const [coverage, { peers }, status] = await Promise.all([
    runJson<CoverageBody & { schema: string }>(['coverage', ...home]),
    runJson<{ schema: string; peers: PeerBody[] }>(['peers', ...home]),
    runJson<StatusBody & { schema: string }>(['status', ...home]),
  ])
  expectCoverage(coverage, 'node2')
  expect(coverage.schema).toBe('llm-node/coverage/1')
  expect(peers.map((peer) => peer.state)).toEqual(['online', 'online'])
  expect(peers.flatMap((peer) => peer.serving.map(({ span }) => span.start)).sort()).toEqual([0, 8])
  const node = nodes.get('node2')
  expect(status).toMatchObject({
    ...{ schema: 'llm-node/status/1', address: node?.address, pid: node?.pid, listening: node?.listening },
    models: [{ nLayers: 12, layers: { start: 4, end: 8 }, ends: false, recipe: 'f32/1' }],
  })
  expect(status.decode.steps).toBeGreaterThan(0)
  expect(status.health.filter((line) => !line.ok)).toEqual([])
})

function expectCoverage({ models }: CoverageBody, name: string): void {
  expect(models).toHaveLength(1)
  expect(models[0]).toMatchObject({ complete: true, nLayers: 12, gaps: [], recipe: 'f32/1' })
  expect(models[0]?.replicas).toEqual(Array(12).fill(1))
  const holders = models[0]?.holders ?? []
  expect(new Set(holders.map((holder) => holder.address))).toEqual(new Set(nodeNames.map(addressOf)))
  expect(holders.filter((holder) => holder.self).map((holder) => holder.address)).toEqual([addressOf(name)])
}

test('a running node answers for its home, and a node without layers in the swarm disturbs nobody', async () => {
  nodes.set('entry', await swarm.start('entry'))
  // A node of its own would find nobody this way; the running one knows the others.
  const home = ['--home', swarm.sandbox.home('entry'), '--no-mdns', ...greedy]
  const answer = await eventually(() => runJson<AskResult>(['ask', question, ...home]))
  expectAnswer(answer)
  expect(wayOf(answer)).toEqual(['0-4 node1', '4-8 node2', '8-12 node3'])
  // The circuit of an answer is kept for the next one of its chat; a kept one answers the same.
  expectAnswer(await runJson<AskResult>(['ask', question, ...home]))
  // Who could see what is said for every answer, and what the kept circuit holds at the others.
  const own = await runJson<{ schema: string; generations: GenerationBody[] }>(['sessions', ...home.slice(0, 2)])
  expect(own).toMatchObject({ schema: 'llm-node/sessions/1', sessions: [], relay: { on: true } })
  expect(own.generations.map(({ state, profile }) => [state, profile])).toEqual([
    ['done', 'direct'],
    ['done', 'direct'],
  ])
  const held = await runJson(['sessions', '--home', swarm.sandbox.home('node2')])
  expect(held).toMatchObject({ generations: [], sessions: [{ span: { start: 4, end: 8 } }] })
  const told = await runCli(['sessions', '--home', swarm.sandbox.home('entry')])
  expect(told.stdout).toMatch(/done +direct .*0-3 \S+, 4-7 \S+, 8-11 \S+\n/)
  const sampled = (seed: number) =>
    runJson<AskResult>(['ask', question, ...home.slice(0, 3), '--temperature', '3', '--seed', `${seed}`])
  const [first, again, other] = await Promise.all([sampled(7), sampled(7), sampled(8)])
  expect(first.tokens).toEqual(again.tokens)
  expect(other.tokens).not.toEqual(first.tokens)
  expect((await runCli(['stop', '--home', swarm.sandbox.home('entry')])).code).toBe(0)
  await swarm.expectIdle(nodeNames)
})

test('an entry that holds leading layers runs them itself', async () => {
  await swarm.setup('leading', '--layers', '0-5')
  const answer = await ask('leading')
  expectAnswer(answer)
  expect(wayOf(answer)).toEqual(['0-6 here', '6-8 node2', '8-12 node3'])
  await swarm.expectIdle(nodeNames)
})

test('spans may overlap, and one of them takes over when the other leaves', async () => {
  await swarm.setup('wide', '--layers', '2-9', '--no-ends')
  nodes.set('wide', await swarm.start('wide'))
  expectAnswer(await ask('entry'))
  await eventually(async () => {
    const { models } = await swarm.get<CoverageBody>('node1', '/api/coverage')
    expect(models[0]?.replicas).toEqual([1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1])
  })

  const { code, stdout } = await runCli(['stop', '--home', swarm.sandbox.home('node2')])
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'Stopped.\n' })
  expect((await nodes.get('node2')?.ended)?.code).toBe(0)
  const answer = await eventually(async () => {
    const answer = await ask('entry')
    expect(wayOf(answer).join()).not.toContain('node2')
    return answer
  })
  expectAnswer(answer)
  expect(wayOf(answer)).toHaveLength(3)
  await swarm.expectIdle(['node1', 'node3', 'wide'])
})
