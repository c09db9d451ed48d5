import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createStopDetector } from '../../../src/pipeline/stop-detector.ts'

function run(stops: readonly string[], deltas: readonly string[]): { text: string; stopped: boolean } {
  const detector = createStopDetector(stops)
  let text = ''
  for (const delta of deltas) {
    const result = detector.push(delta)
    text += result.text
    if (result.stopped) return { text: text + detector.flush(), stopped: true }
  }
  return { text: text + detector.flush(), stopped: false }
}

/** The definition, letter by letter: the first moment at which the text ends with a stop string. */
function reference(stops: readonly string[], text: string): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length)
    if (found.length > 0) return { text: text.slice(0, end - Math.max(...found)), stopped: true }
  }
  return { text, stopped: false }
}

test('stops across borders and gives out what cannot become a stop', () => {
  const detector = createStopDetector(['END', '\n\n'])
  expect(detector.push('Hello E')).toEqual({ text: 'Hello ', stopped: false })
  expect(detector.push('N')).toEqual({ text: '', stopped: false })
  expect(detector.push('T\n')).toEqual({ text: 'ENT', stopped: false })
  expect(detector.push('E')).toEqual({ text: '\n', stopped: false })
  expect(detector.push('ND and more')).toEqual({ text: '', stopped: true })
  expect(detector.push('more')).toEqual({ text: '', stopped: true })
  expect(detector.flush()).toBe('')
})

test('what was held back comes out at the end', () => {
  const detector = createStopDetector(['END'])
  expect(detector.push('the EN').text).toBe('the ')
  expect(detector.flush()).toBe('EN')
})

test('without stop strings nothing is held back', () => {
  expect(createStopDetector([]).push('abc')).toEqual({ text: 'abc', stopped: false })
})

test('the result does not depend on how the text is cut', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 })
  const pieces = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), maxLength: 8 }), { maxLength: 3 })
  fc.assert(
    fc.property(fc.array(word, { maxLength: 4 }), pieces, (stops, deltas) => {
      expect(run(stops, deltas)).toEqual(reference(stops, deltas.join('')))
    }),
    { numRuns: 3000 },
  )
})

test('nothing more than needed is held back', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 3 }),
      fc.string({ unit: fc.constantFrom('a', 'b') }),
      (stops, text) => {
        const detector = createStopDetector(stops)
        const { stopped } = detector.push(text)
        const held = detector.flush()
        if (!stopped && held !== '') expect(stops.some((stop) => stop.startsWith(held) && stop !== held)).toBe(true)
      },
    ),
  )
})

test.each([[['']], [['x'.repeat(1025)]], [Array.from({ length: 17 }, (_, i) => `stop ${i}`)]])(
  'refuses %.40s',
  (stops) => {
    expect(() => createStopDetector(stops)).toThrow(expect.objectContaining({ code: 'BAD_INPUT' }))
  },
)
