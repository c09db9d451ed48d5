import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { chatCompletion } from '../../src/api/openai/chat-schema.ts'
import { openAiError } from '../../src/api/openai/model-schema.ts'
import type { GenerationBody, SessionBody } from '../../src/api/types.ts'
import { type CliProcess, type StartedNode, spawnCli } from '../e2e/cli.ts'
import { createSwarm, eventually, oneThread, type Swarm } from '../e2e/swarm.ts'

const nodeNames = ['node1', 'node2', 'node3'] as const
type NodeName = (typeof nodeNames)[number]

/**
 * A step may take 5 s before its hop counts as lost (protocol.md §6); somebody else has 2 s to take its layers over; a
 * second for ending the process.
 */
const STEP_DEADLINE_MS = 8_000

let swarm: Swarm
const nodes = new Map<string, StartedNode>()

beforeAll(async () => {
  swarm = await createSwarm()
  await Promise.all([
    swarm.setup('node1', '--layers', '0-3', '--no-ends'),
    swarm.setup('node2', '--layers', '4-7', '--no-ends'),
    swarm.setup('node3', '--layers', '8-11', '--no-ends'),
    swarm.setup('entry', '--layers', 'none'),
  ])
})

beforeEach(async () => {
  for (const name of nodeNames) {
    const node = nodes.get(name)
    // A home whose node was killed starts again as it is.
    if (node === undefined || node.over) nodes.set(name, await swarm.start(name))
  }
})

afterAll(() => swarm?.close())

/** An answer that goes on for long, once its text has begun to come and every hop holds a session of it. */
async function longAnswer(more: readonly string[] = ['--wait-ms', '0']): Promise<CliProcess> {
  const how = ['--temperature', '0', '--ignore-end', '--max-tokens', '1500', ...more]
  const ask = swarm.sandbox.track(spawnCli(['ask', 'What is llm-node?', ...swarm.as('entry'), ...oneThread, ...how]))
  await ask.seen('llm-node is a peer-to-peer program')
  for (const name of nodeNames) {
    const { sessions } = await swarm.get<{ sessions: SessionBody[] }>(name, '/api/sessions')
    expect(sessions).toHaveLength(1)
    expect(sessions[0]?.steps).toBeGreaterThan(0)
  }
  return ask
}

/** The ask ends within the deadline and says on one line, and on one of what to do, which layers were lost. */
async function expectLost(ask: CliProcess, layers: string): Promise<void> {
  const brokenMs = performance.now()
  const { code, stdout, stderr } = await ask.ended
  expect(performance.now() - brokenMs).toBeLessThan(STEP_DEADLINE_MS)
  expect(stdout).toMatch(/^llm-node is a peer-to-peer program(.|\n)*\n$/)
  expect(stderr).toMatch(/^llm-node: .+ \(COVERAGE_GAP\)\n {2}\S.*\n$/)
  expect(stderr).toMatch(new RegExp(`Layers ${layers}\\b`))
  expect(code).toBe(5)
}

async function killNode(name: NodeName): Promise<void> {
  const node = nodes.get(name)
  node?.kill('SIGKILL')
  await node?.ended
}

test('a hop that is killed: a clear error that names its layers, and the others free their KV', async () => {
  const ask = await longAnswer()
  const lost = expectLost(ask, '4-7')
  await killNode('node2')
  await lost
  await swarm.expectIdle(['node1', 'node3'], STEP_DEADLINE_MS)
})

test('a hop that is killed and started again: the answer waits for it, says so, and goes on', async () => {
  const ask = await longAnswer([])
  const told = ask.stdout.length
  await killNode('node2')
  await eventually(async () =>
    expect(ask.stderr).toContain('Layers 4-7 of qwen3-12x128 are held by nobody who answers.'),
  )
  expect(ask.stderr).toContain('Waiting for somebody')
  nodes.set('node2', await swarm.start('node2'))
  await eventually(async () => expect(ask.stderr).toContain('Somebody has come'), 30_000)
  await eventually(async () => expect(ask.stdout.length).toBeGreaterThan(told + 100))
  ask.kill('SIGINT')
  expect((await ask.ended).code).toBe(130)
  await swarm.expectIdle(nodeNames)
})

test('the same for the first and the last hop, through a running node', async () => {
  nodes.set('entry', await swarm.start('entry'))
  for (const [name, layers] of [
    ['node1', '0-3'],
    ['node3', '8-11'],
  ] as const) {
    const ask = await eventually(longAnswer)
    const lost = expectLost(ask, layers)
    await killNode(name)
    await lost
    await swarm.expectIdle(['entry', ...nodeNames.filter((other) => other !== name)], STEP_DEADLINE_MS)
    nodes.set(name, await swarm.start(name))
  }
})

test('a client that goes away: the running node and all hops free everything', async () => {
  const ask = await eventually(longAnswer)
  ask.kill('SIGKILL')
  await swarm.expectIdle([...nodeNames, 'entry'], STEP_DEADLINE_MS)
  nodes.get('entry')?.kill('SIGTERM')
  expect((await nodes.get('entry')?.ended)?.code).toBe(0)
})

test('a hop that stands still: the same, although its connections stay open', async () => {
  const ask = await longAnswer()
  const lost = expectLost(ask, '8-11')
  nodes.get('node3')?.kill('SIGSTOP')
  await lost
  await swarm.expectIdle(['node1', 'node2'], STEP_DEADLINE_MS)
  nodes.get('node3')?.kill('SIGCONT')
  await swarm.expectIdle(['node3'], STEP_DEADLINE_MS)
})

test('an asking process that is killed: all hops free their KV', async () => {
  const ask = await longAnswer()
  ask.kill('SIGKILL')
  await swarm.expectIdle(nodeNames, STEP_DEADLINE_MS)
})

test('Ctrl-C ends an answer at once, and all hops free their KV', async () => {
  const ask = await longAnswer()
  ask.kill('SIGINT')
  const { code, stdout, stderr } = await ask.ended
  expect(stdout).toMatch(/^llm-node is a peer-to-peer program(.|\n)*\n$/)
  expect({ code, stderr }).toEqual({
    code: 130,
    stderr: 'llm-node: Stopped on request. (ABORTED)\n',
  })
  await swarm.expectIdle(nodeNames, STEP_DEADLINE_MS)
})

test('the API tells the text so far with the error, and takes the answer up again by its name', async () => {
  // Last: a chat keeps its chain, and with it sessions at all hops.
  const { apiUrl } = await swarm.start('entry')
  const chat = async (llm_node: object) => {
    const body = { model: 'qwen3-12x128', messages: [{ role: 'user', content: 'What is llm-node?' }], llm_node }
    const how = { temperature: 0, ignore_eos: true, max_tokens: 800 }
    const headers = { 'content-type': 'application/json' }
    const sent = { method: 'POST', headers, body: JSON.stringify({ ...body, ...how }) }
    return fetch(new URL('/v1/chat/completions', apiUrl), sent)
  }
  const asking = chat({ wait_ms: 0 })
  await eventually(async () => {
    const { generations } = await swarm.get<{ generations: GenerationBody[] }>('entry', '/api/generations')
    expect(generations[0]).toMatchObject({ state: 'running' })
    expect(generations[0]?.tokens).toBeGreaterThan(20)
  })
  await killNode('node2')
  const broken = await asking
  expect(broken.status).toBe(503)
  const { error } = openAiError.parse(await broken.json())
  expect(error.code).toBe('coverage_gap')
  const { text = '', tokens = [], resume } = error.llm_node.interrupted ?? {}
  expect(text).toMatch(/^llm-node is a peer-to-peer program/)
  expect(tokens.length).toBeGreaterThan(20)
  nodes.set('node2', await swarm.start('node2'))
  const whole = await eventually(async () => {
    const answered = await chat({ resume, wait_ms: 30_000 })
    expect(answered.status).toBe(200)
    return chatCompletion.parse(await answered.json())
  }, 30_000)
  expect(whole.usage.completion_tokens).toBe(800)
  expect(whole.choices[0]?.message.content.startsWith(text)).toBe(true)
})
