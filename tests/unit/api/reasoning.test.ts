import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createReasoningSplitter } from '../../../src/api/openai/reasoning.ts'
import type { Thinking } from '../../../src/pipeline/prompt.ts'

function split(thinking: Thinking, pieces: readonly string[]) {
  const splitter = createReasoningSplitter(thinking)
  const parts = [...pieces.map((piece) => splitter.push(piece)), splitter.flush()]
  return {
    reasoning: parts.map(({ reasoning }) => reasoning).join(''),
    content: parts.map(({ content }) => content).join(''),
  }
}

describe('reasoning', () => {
  it.each<[string, Thinking, string, { reasoning: string; content: string }]>([
    ['a block', 'possible', '<think>\nLet me see.\n</think>\n\nFour.', { reasoning: 'Let me see.', content: 'Four.' }],
    ['an empty block', 'possible', '<think>\n\n</think>\n\nFour.', { reasoning: '', content: 'Four.' }],
    ['no block', 'possible', 'Four.', { reasoning: '', content: 'Four.' }],
    ['space before other text', 'possible', ' <th Four.', { reasoning: '', content: ' <th Four.' }],
    ['a block that the prompt opened', 'open', 'See.\n</think>\n\nFour.', { reasoning: 'See.', content: 'Four.' }],
    ['an end within the block', 'open', 'See </thi', { reasoning: 'See </thi', content: '' }],
    ['an end within the opening', 'possible', '<thi', { reasoning: '', content: '<thi' }],
    ['a mark in the middle', 'possible', 'a<think>b', { reasoning: '', content: 'a<think>b' }],
    ['a model without thinking', 'none', '<think>a</think>b', { reasoning: '', content: '<think>a</think>b' }],
    ['line breaks within', 'open', 'a\n\nb\n</think>c\n\nd\n', { reasoning: 'a\n\nb', content: 'c\n\nd\n' }],
  ])('%s', (_what, thinking, text, expected) => {
    expect(split(thinking, [text])).toEqual(expected)
    expect(split(thinking, [...text])).toEqual(expected)
  })

  it('does not depend on how the text is cut', () => {
    const word = fc.constantFrom('<think>', '</think>', '<', '/', '>', 'think', '\n', ' ', 'a')
    const thinking = fc.constantFrom<Thinking>('none', 'possible', 'open')
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), thinking, fc.array(fc.nat(60)), (words, kind, cuts) => {
        const text = words.join('')
        const places = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length]
        const pieces = places.slice(1).map((end, i) => text.slice(places[i] ?? 0, end))
        expect(split(kind, pieces)).toEqual(split(kind, [text]))
      }),
      { numRuns: 300 },
    )
  })
})
