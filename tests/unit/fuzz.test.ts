import { existsSync } from 'node:fs'
import { expect, it } from 'vitest'
import { createRandom } from '../../src/base/random.ts'
import { startAllocationMeter } from '../fuzz/allocation.ts'
import { corpusFile, readCorpus } from '../fuzz/corpus.ts'
import { attempt } from '../fuzz/fuzzer.ts'
import { createMutator } from '../fuzz/mutate.ts'
import { fuzzTargets } from '../fuzz/targets.ts'

const MUTATIONS = 600
const meter = startAllocationMeter()

/** A look at every parser with each change: the committed corpus and the same few hundred mutations of it each time. */
it.each(fuzzTargets.map((target) => [target.name, target] as const))('parser %s keeps its promises', (name, target) => {
  expect(existsSync(corpusFile(name)), 'a corpus is committed').toBe(true)
  const inputs = [...target.seeds(), ...readCorpus(corpusFile(name))]
  const random = createRandom(7)
  const pick = () => inputs[random() % inputs.length] ?? new Uint8Array(0)
  const mutator = createMutator(random, target.maxBytes, [])
  for (let i = -inputs.length; i < MUTATIONS; i++) {
    const input = inputs[inputs.length + i] ?? mutator.mutate(pick(), pick())
    const error = attempt(target, input, meter)
    expect(error, `npm run fuzz -- --target ${name}, input ${Buffer.from(input).toString('base64')}`).toBeUndefined()
  }
})

it('notices a parser that breaks a promise, one that is slow, and one that allocates what it is told', () => {
  const target = (run: () => void) => ({ name: 'bad', maxBytes: 8, seeds: () => [], run })
  const find = (run: () => void) => String(attempt(target(run), new Uint8Array(4), meter))
  expect(find(() => expect.fail('broken'))).toContain('broken')
  expect(find(() => new Uint8Array(2 ** 24))).toContain('16777216 bytes allocated')
  expect(find(() => Array.from({ length: 100_000 }))).toContain('bytes allocated')
  expect(
    find(() => {
      const started = process.cpuUsage()
      while (process.cpuUsage(started).user < 300_000);
    }),
  ).toContain('three times')
})
