/** A sample of what npm run test:long does a thousand times: hops break, and the answer is the same to the byte. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ChaosCase, type ChaosSwarm, createChaosSwarm } from './chaos.ts'

let swarm: ChaosSwarm

beforeAll(async () => {
  swarm = await createChaosSwarm()
})
afterAll(() => swarm?.close())

const cases: readonly ChaosCase[] = [
  { span: 'first', fault: { kind: 'prefill', nth: 1, does: 'die' } },
  { span: 'middle', fault: { kind: 'decode', nth: 20, does: 'stop' } },
  { span: 'last', fault: { kind: 'decode', nth: 5, does: 'infinite' } },
  { span: 'first', fault: { kind: 'frame', nth: 30, does: 'corrupt' } },
  { span: 'middle', fault: { kind: 'decode', nth: 1, does: 'leave' } },
  { span: 'last', fault: { kind: 'decode', nth: 10, does: 'stall' } },
]

test.each(cases)('$span: $fault.does at $fault.kind $fault.nth', async (each) => {
  const { result, undisturbed, struck } = await swarm.run(each)
  const { text, tokens, logitsSha256, finishReason } = undisturbed
  expect(struck).toBe(true)
  expect(result).toMatchObject({ text, tokens, logitsSha256, finishReason, exact: true })
})
