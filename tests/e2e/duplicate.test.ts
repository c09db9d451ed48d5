/** A home that is copied and started twice: it is noticed, and said in plain words what to do. */
import { cp } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { StatusBody } from '../../src/api/types.ts'
import { runCli, type StartedNode } from './cli.ts'
import { createSwarm, eventually, type Swarm } from './swarm.ts'

let swarm: Swarm
let first: StartedNode

beforeAll(async () => {
  swarm = await createSwarm()
  await Promise.all(['middle', 'first'].map((name) => swarm.setup(name, '--layers', 'none')))
  await swarm.start('middle')
  first = await swarm.start('first')
})
afterAll(() => swarm?.close())

const complaints = async (name: string) => {
  const { health } = await swarm.get<StatusBody>(name, '/api/status')
  return health.filter(({ ok, text }) => !ok && /copy of this home/.test(text))
}

test('one of them at least says that another machine runs with a copy of this home, and what to do', async () => {
  expect(await complaints('first')).toEqual([])
  await runCli(['stop', '--home', swarm.sandbox.home('first')])
  await first.ended
  await cp(swarm.sandbox.home('first'), swarm.sandbox.home('copy'), { recursive: true })
  first = await swarm.start('first')
  const copy = await swarm.start('copy')
  expect(copy.address).toBe(first.address)
  // The other one follows within a minute or two (tests/integration/duplicate.test.ts).
  const [name = '', said] = await eventually(async () => {
    const found = await Promise.all(['first', 'copy'].map(async (home) => [home, ...(await complaints(home))] as const))
    const one = found.find(([, complaint]) => complaint !== undefined)
    if (one === undefined) throw new Error('neither says so')
    return one
  }, 40_000)
  expect(said?.next).toMatch(/Stop one of them; give it a home of its own/)
  const { stdout } = await runCli(['status', '--home', swarm.sandbox.home(name)])
  expect(stdout).toMatch(/copy of this home/)
})
