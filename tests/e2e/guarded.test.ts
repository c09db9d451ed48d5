/** Real processes under `guarded`: relays are killed in the middle of an answer, and it goes on, never under less. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AskResult, GenerationBody, PeerBody, StatusBody } from '../../src/api/types.ts'
import { type CliProcess, runCli, runJson, type StartedNode, spawnCli } from './cli.ts'
import { createSwarm, eventually, type Swarm } from './swarm.ts'

const TOKENS = 200
const HOW = ['--temperature', '0.5', '--seed', '4', '--ignore-end', '--max-tokens', `${TOKENS}`, '--logits-digest']
const RELAYS = ['relay1', 'relay2', 'relay3'] as const

let swarm: Swarm
let undisturbed: AskResult
const nodes = new Map<string, StartedNode>()

beforeAll(async () => {
  swarm = await createSwarm()
  await Promise.all([
    swarm.setup('low', '--layers', '0-5', '--no-ends'),
    swarm.setup('high', '--layers', '6-11', '--no-ends'),
    ...RELAYS.map((name) => swarm.setup(name, '--layers', 'none')),
    swarm.setup('entry', '--layers', 'none'),
  ])
  // Everybody meets the first one, and the others through it.
  nodes.set('relay1', await swarm.start('relay1'))
  const others = ['low', 'high', 'relay2', 'relay3', 'entry']
  await Promise.all(others.map(async (name) => nodes.set(name, await swarm.start(name))))
  await eventually(async () => {
    const { peers } = await swarm.get<{ peers: PeerBody[] }>('entry', '/api/peers')
    expect(peers.filter(({ state }) => state === 'online')).toHaveLength(RELAYS.length + 2)
  }, 30_000)
  undisturbed = await runJson<AskResult>(['ask', 'Tell a story.', ...entryHome(), '--profile', 'direct', ...HOW])
  expect(undisturbed.profile).toBe('direct')
}, 240_000)
afterAll(() => swarm?.close())

const entryHome = () => ['--home', swarm.sandbox.home('entry')]
const ask = (...more: string[]): CliProcess =>
  swarm.sandbox.track(
    spawnCli(['ask', 'Tell a story.', ...entryHome(), '--profile', 'guarded', '--json', ...HOW, ...more]),
  )

/** The relays that circuits pass now. */
async function busyRelays(): Promise<string[]> {
  const found = await Promise.all(
    RELAYS.filter((name) => nodes.get(name)?.over === false).map(async (name) => {
      const { relay } = await swarm.get<StatusBody>(name, '/api/status')
      return relay.circuits > 0 ? [name] : []
    }),
  )
  return found.flat()
}

/** An answer that has begun, and its first relays. */
async function running(): Promise<string[]> {
  return eventually(async () => {
    const { generations } = await swarm.get<{ generations: GenerationBody[] }>('entry', '/api/generations')
    expect(generations[0]).toMatchObject({ error: null, state: 'running', profile: 'guarded' })
    expect(generations[0]?.tokens).toBeGreaterThan(5)
    return await busyRelays()
  }, 20_000)
}

test('peers says what the entry has seen of each itself, and nothing of those it has not used', async () => {
  const { peers } = await runJson<{ peers: PeerBody[] }>(['peers', ...entryHome()])
  const scores = new Map(peers.map(({ address, score }) => [address, score]))
  const scoresOf = (...names: string[]) => names.map((name) => scores.get(nodes.get(name)?.address ?? ''))
  // One answer over each of them.
  for (const score of scoresOf('low', 'high')) expect(score).toBeCloseTo(2 / 3, 2)
  expect(scoresOf(...RELAYS)).toEqual([null, null, null])
  expect(peers.filter(({ twoTruths }) => twoTruths)).toEqual([])
  const { stdout } = await runCli(['peers', ...entryHome()])
  expect(stdout).toMatch(/quality +score +reached/)
  expect(stdout.match(/ 0\.67 /g)).toHaveLength(2)
  // Who served has seen nobody work.
  const seen = await swarm.get<{ peers: PeerBody[] }>('low', '/api/peers')
  expect(seen.peers.every(({ score }) => score === null)).toBe(true)
})

test('a relay that stops in the middle: nothing of it is visible', async () => {
  const answer = ask()
  const victim = (await running())[0] ?? ''
  nodes.get(victim)?.kill('SIGTERM')
  const [{ code, stdout, stderr }, left] = await Promise.all([answer.ended, nodes.get(victim)?.ended])
  expect({ code, stderr, left: left?.code }).toEqual({ code: 0, stderr: '', left: 0 })
  const { text, tokens, logitsSha256 } = undisturbed
  const result = JSON.parse(stdout) as AskResult
  expect(result).toMatchObject({ text, tokens, logitsSha256, profile: 'guarded', exact: true, failovers: 0 })
  const restarted = await swarm.start(victim)
  nodes.set(victim, restarted)
  await eventually(async () => {
    const { peers } = await swarm.get<{ peers: PeerBody[] }>('entry', '/api/peers')
    expect(peers.filter(({ connected }) => connected).map(({ address }) => address)).toContain(restarted.address)
  }, 30_000)
})

test('a relay that is killed in the middle: the same answer, still guarded', async () => {
  const answer = ask()
  const busy = await running()
  expect(busy).toHaveLength(2)
  const victim = busy[1] ?? ''
  nodes.get(victim)?.kill('SIGKILL')
  await nodes.get(victim)?.ended
  const { code, stdout, stderr } = await answer.ended
  expect(code, stderr).toBe(0)
  const result = JSON.parse(stdout) as AskResult
  const { text, tokens, logitsSha256 } = undisturbed
  expect(result).toMatchObject({ text, tokens, logitsSha256, profile: 'guarded', exact: true })
  expect(result.failovers).toBeGreaterThan(0)
  expect(result.hops.map(({ address }) => address)).toEqual([nodes.get('low')?.address, nodes.get('high')?.address])
  const told = await runCli(['sessions', ...entryHome()])
  expect(told.stdout).toMatch(/done +guarded/)
})

test('all relays killed: nothing goes on without them; when others come, the answer does, as it was', async () => {
  const answer = ask('--wait-ms', '120000')
  await running()
  for (const name of RELAYS) nodes.get(name)?.kill('SIGKILL')
  await eventually(async () => expect(answer.stderr).toMatch(/No guarded way/), 60_000)
  const steps = async () => (await swarm.get<StatusBody>('low', '/api/status')).decode.steps
  const before = await steps()
  // No other answer finds a way either.
  const { code, stdout } = await ask('--wait-ms', '0').ended
  expect(code).not.toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'NO_RELAY' } })
  expect(await steps()).toBe(before)
  for (const name of ['relay1', 'relay2']) nodes.set(name, await swarm.start(name))
  const ended = await answer.ended
  expect(ended.code, ended.stderr).toBe(0)
  const { text, tokens, logitsSha256 } = undisturbed
  expect(JSON.parse(ended.stdout)).toMatchObject({ text, tokens, logitsSha256, profile: 'guarded', exact: true })
})
