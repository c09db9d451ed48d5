import { expect } from 'vitest'
import { createRandom } from '../../src/base/random.ts'
import type { TestEntry } from './pipeline-helpers.ts'

/** Answers with prompts, lengths, seeds and guesses of all kinds, all audited: each passes. */
export async function expectHonestAudits(times: number, entry: TestEntry): Promise<void> {
  const bits = createRandom(5)
  for (let time = 0; time < times; time++) {
    const words = 1 + (bits() % (time % 10 === 0 ? 200 : 20))
    const content = Array.from(
      { length: words },
      () => ['one', 'two', 'sky', 'river', 'count', 'tell'][bits() % 6],
    ).join(' ')
    const { result, error } = await entry.ask({
      prompt: { messages: [{ role: 'user', content }] },
      maxTokens: 1 + (bits() % 12),
      sampling: { temperature: (bits() % 3) / 2, seed: bits() },
      speculate: time % 2 === 0,
      logitsDigest: false,
    })
    if (result === undefined) throw error ?? new Error('no result')
    expect(result.audit?.liars).toEqual([])
    // On a busy machine an answer may have moved: then both holders of a span have had a part in it.
    if (result.failovers > 0 && result.audit?.state === 'skipped') continue
    expect(result.audit, `answer ${time}: ${result.audit?.note} (${content})`).toMatchObject({
      state: 'passed',
      exact: true,
      liars: [],
    })
  }
}
