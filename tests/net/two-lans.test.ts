import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { AskResult, NetcheckBody, PeerBody, PingBody, StatusBody } from '../../src/api/types.ts'
import {
  type CliProcess,
  createSandbox,
  expectedAnswer,
  NODE_LIFE_MS,
  runCli,
  runJson,
  type StartedNode,
  spawnCli,
  startNode,
} from '../e2e/cli.ts'
import { eventually } from '../e2e/swarm.ts'
import { createInternet, internetUnavailable } from './internet.ts'

const question = 'What is llm-node?'
const unavailable = internetUnavailable()

interface BootstrapLine {
  readonly listening: readonly string[]
}

/** Two homes behind routers, a bootstrap node and an outsider with public addresses; layers 0-3, 4-7, 8-11. */
async function createWorld() {
  const sandbox = await createSandbox()
  const net = await createInternet({ servers: 2, lans: [2, 1] })
  onTestFinished(async () => {
    await sandbox.close()
    await net.remove()
  })
  const places = {
    bootstrap: net.onServer(0),
    outsider: net.onServer(1),
    anna: net.onMachine(0, 0),
    other: net.onMachine(0, 1),
    ben: net.onMachine(1, 0),
  }
  type Name = keyof typeof places
  const home = (name: Name) => ['--home', sandbox.home(name)]
  const boot = sandbox.track(
    spawnCli(['bootstrap', 'run', '--json', ...home('bootstrap'), '--no-mdns'], {
      prefix: places.bootstrap,
      lifeMs: NODE_LIFE_MS,
    }),
  )
  const setup = (name: Name, ...what: string[]) => runJson(['setup', ...home(name), '--recipe', 'f32', ...what])
  await Promise.all([
    boot.seen('\n'),
    setup('anna', '--layers', '0-3'),
    setup('ben', '--layers', '4-7', '--no-ends'),
    setup('outsider', '--layers', '8-11', '--no-ends'),
    setup('other', '--layers', '0-3', '--no-ends'),
  ])
  const { listening } = JSON.parse(boot.stdout) as BootstrapLine
  const start = async (name: Name, ...flags: string[]): Promise<StartedNode> =>
    sandbox.track(await startNode(sandbox.home(name), ['--threads', '1', ...flags], { prefix: places[name] }))
  const run = <T>(name: Name, ...args: string[]): Promise<T> =>
    runJson<T>([...args, ...home(name)], { prefix: places[name] })
  return { net, boot, meet: ['--bootstrap', listening[0] ?? ''], listening, home, places, start, run }
}

type World = Awaited<ReturnType<typeof createWorld>>

const words = async ({ run }: World, names: readonly ('anna' | 'ben' | 'outsider')[]) =>
  Promise.all(names.map(async (name) => (await run<StatusBody>(name, 'status')).reachability.word))

/** An answer of many tokens, under way in the node of anna. */
function longAsk({ home, places }: World): CliProcess {
  const flags = ['--max-tokens', '400', '--ignore-end', '--temperature', '0']
  return spawnCli(['ask', question, ...home('anna'), ...flags], { prefix: places.anna })
}

test.skipIf(unavailable !== null)(
  `homes behind routers and an outsider compute together, also after the bootstrap node is gone${unavailable === null ? '' : `: ${unavailable}`}`,
  async () => {
    const world = await createWorld()
    const { boot, meet, start, run, net } = world
    const [anna, ben, outsider] = await Promise.all([
      start('anna', ...meet),
      start('ben', ...meet),
      start('outsider', ...meet),
      // Another network on the same LAN.
      start('other', '--network', 'elsewhere'),
    ])
    expect(outsider.listening).toEqual([
      expect.stringContaining(`/ip4/${net.serverAddress(1)}/tcp/5561/p2p/`),
      expect.stringContaining(`/ip4/${net.serverAddress(1)}/udp/5561/quic-v1/p2p/`),
    ])
    await eventually(
      async () => expect(await words(world, ['anna', 'ben', 'outsider'])).toEqual(['relayed', 'relayed', 'public']),
      60_000,
    )

    const answer = await run<AskResult>('anna', 'ask', question, '--temperature', '0')
    const expected = await expectedAnswer(question)
    expect(answer.tokens).toEqual(expected.answer_ids)
    expect(answer).toMatchObject({ text: expected.answer, exact: true })
    expect(answer.hops.map((hop) => hop.address)).toEqual([null, ben.address, outsider.address])
    // mDNS ends at the router, and a network's name keeps two swarms on one LAN apart.
    expect((await run<{ peers: PeerBody[] }>('other', 'peers')).peers).toEqual([])
    const { peers } = await run<{ peers: PeerBody[] }>('anna', 'peers')
    expect(peers.find(({ address }) => address === ben.address)).toMatchObject({
      relayed: true,
      transport: 'relay',
      reachability: 'relayed',
    })
    // The word travels with the next advert, and a path that was just proven may still be changing hands.
    await eventually(async () => {
      const found = await run<PingBody>('anna', 'ping', ben.address)
      expect(found).toMatchObject({ path: 'relay', reachability: 'relayed' })
    }, 30_000)
    await eventually(async () => {
      const found = await run<PingBody>('ben', 'ping', outsider.address)
      expect(found).toMatchObject({ path: 'direct', reachability: 'public' })
    }, 30_000)

    // Both homes have a place on the outsider, too: then the bootstrap node may go, in the middle of an answer.
    await eventually(async () => {
      const { servers } = await run<NetcheckBody>('ben', 'netcheck')
      expect(servers.map(({ role }) => role).sort()).toEqual(['bootstrap', 'relay'])
    }, 15_000)
    const whole = longAsk(world)
    const text = (await whole.ended).stdout
    expect(text.length).toBeGreaterThan(400)
    const broken = longAsk(world)
    await broken.seen(text.slice(0, 60))
    boot.kill('SIGKILL')
    const { code, stdout, stderr } = await broken.ended
    const node = anna.over ? (await anna.ended).stderr : ''
    expect([code, stdout, stderr, node]).toEqual([0, text, expect.anything(), ''])
    await delay(200)
    expect(await run<PingBody>('anna', 'ping', ben.address)).toMatchObject({ path: 'relay' })
    const again = await run<AskResult>('anna', 'ask', question, '--temperature', '0')
    expect(again.tokens).toEqual(expected.answer_ids)
    expect(anna.over || ben.over || outsider.over).toBe(false)
    expect((await runCli(['netcheck', ...world.home('anna')], { prefix: world.places.anna })).stdout).toContain(
      'relayed:',
    )
  },
  300_000,
)
