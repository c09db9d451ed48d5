import fc from 'fast-check'
import { expect, test } from 'vitest'
import { mergeRanges, planPieces, type Unit, type UnitTensor } from '../../../src/shard/units.ts'

const limits = { pieceBytes: 1_000, gapBytes: 10, gapShare: 0.05 }

/** Tensors of the given sizes, each `gap` bytes after the one before, in the file "f" or "g". */
function unitOf(sizes: readonly { size: number; gap: number; file: string }[]): Unit {
  const ends = new Map<string, number>()
  let at = 0
  const tensors = sizes.map(({ size, gap, file }, i): UnitTensor => {
    const begin = (ends.get(file) ?? 100) + gap
    ends.set(file, begin + size)
    const tensor: UnitTensor = { name: `t${i}`, file, dtype: 'F32', shape: [size / 4], begin, end: begin + size, at }
    at += size
    return tensor
  })
  return { layer: 0, fileName: 'x', tensors, rawBytes: at, packedBytes: 0 }
}

const spec = (size: number, gap = 0, file = 'f') => ({ size, gap, file })

test('neighbours become one GET, small gaps included, and distant ones and other files do not', () => {
  const unit = unitOf([spec(100), spec(100), spec(300, 10), spec(100, 11), spec(50, 0, 'g')])
  expect(planPieces(unit, [], limits).map(({ file, begin, end }) => [file, begin, end])).toEqual([
    ['f', 100, 610],
    ['f', 621, 721],
    ['g', 100, 150],
  ])
})

test('gaps together stay below their share', () => {
  const unit = unitOf([spec(40), spec(40, 4), spec(40, 4), spec(40, 4)])
  // 5 % of 160 bytes: room for two gaps of 4.
  expect(planPieces(unit, [], limits).map(({ begin, end }) => [begin, end])).toEqual([
    [100, 228],
    [232, 272],
  ])
})

test('what is done is left out', () => {
  const unit = unitOf([spec(100), spec(100)])
  const pieces = planPieces(
    unit,
    [
      { begin: 20, end: 60 },
      { begin: 90, end: 150 },
    ],
    { ...limits, gapBytes: 0 },
  )
  expect(pieces.flatMap(({ parts }) => parts)).toEqual([
    { begin: 100, end: 120, at: 0 },
    { begin: 160, end: 190, at: 60 },
    { begin: 250, end: 300, at: 150 },
  ])
})

test('whatever is missing is fetched exactly once, within the limits', () => {
  const tensor = fc.record({
    size: fc.integer({ min: 1, max: 700 }).map((n) => n * 4),
    gap: fc.nat({ max: 20 }),
    file: fc.constantFrom('f', 'g'),
  })
  const range = fc.tuple(fc.nat({ max: 9_000 }), fc.nat({ max: 2_000 }))
  fc.assert(
    fc.property(
      fc.array(tensor, { minLength: 1, maxLength: 8 }),
      fc.array(range, { maxLength: 5 }),
      (sizes, ranges) => {
        const unit = unitOf(sizes)
        const done = mergeRanges(
          ranges
            .map(([begin, length]) => ({ begin, end: Math.min(unit.rawBytes, begin + length) }))
            .filter(({ begin, end }) => begin < end),
        )
        const pieces = planPieces(unit, done, limits)
        const seen = new Uint8Array(unit.rawBytes)
        for (const { begin, end } of done) seen.fill(1, begin, end)
        let fetched = 0
        let wanted = 0
        for (const { file, begin, end, parts } of pieces) {
          expect(end - begin).toBeLessThanOrEqual(limits.pieceBytes)
          fetched += end - begin
          for (const part of parts) {
            expect(begin <= part.begin && part.end <= end).toBe(true)
            const owner = unit.tensors.find((one) => one.at <= part.at && part.at < one.at + one.end - one.begin)
            expect([owner?.file, part.at - (owner?.at ?? 0)]).toEqual([file, part.begin - (owner?.begin ?? 0)])
            wanted += part.end - part.begin
            for (let i = 0; i < part.end - part.begin; i++) seen[part.at + i] = (seen[part.at + i] ?? 0) + 1
          }
        }
        expect(seen.every((count) => count === 1)).toBe(true)
        expect(fetched - wanted).toBeLessThanOrEqual(wanted * limits.gapShare)
      },
    ),
  )
})

test('ranges are merged where they touch or overlap', () => {
  const ranges = [
    [5, 7],
    [0, 2],
    [2, 3],
    [6, 9],
    [20, 21],
    [8, 8],
  ].map(([begin = 0, end = 0]) => ({ begin, end }))
  expect(mergeRanges(ranges)).toEqual([
    { begin: 0, end: 3 },
    { begin: 5, end: 9 },
    { begin: 20, end: 21 },
  ])
})
