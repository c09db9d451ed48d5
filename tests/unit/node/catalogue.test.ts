import { expect, test } from 'vitest'
import { parseCatalogue, readCatalogue } from '../../../src/node/catalogue.ts'

test('every model of the catalogue is one that the engine knows, with sizes for every recipe', async () => {
  const models = await readCatalogue()
  expect(models.length).toBeGreaterThanOrEqual(10)
  expect(new Set(models.map(({ repository }) => repository)).size).toBe(models.length)
  for (const { sizes, nLayers, repository } of models) {
    expect(nLayers, repository).toBeGreaterThan(0)
    expect(sizes['q4/1'].layerBytes).toBeLessThan(sizes['i8/1'].layerBytes)
    expect(sizes['i8/1'].layerBytes).toBeLessThan(sizes['f32/1'].layerBytes)
    expect(sizes['i8/1'].totalBytes).toBeGreaterThan(nLayers * sizes['i8/1'].layerBytes)
  }
})

test('sizes follow from the shape', async () => {
  const models = await readCatalogue()
  const found = models.find(({ repository }) => repository === 'Qwen/Qwen3-0.6B')
  // q, k, v 1024 × 4096, o 2048 × 1024, gate and up 1024 × 6144, down 3072 × 1024.
  const weights = 1024 * 4096 + 2048 * 1024 + 1024 * 6144 + 3072 * 1024
  const norms = 4 * (2 * 1024 + 2 * 128)
  const scales = 4 * (4096 + 1024 + 6144 + 1024)
  const exact = weights + norms + scales
  expect(found?.sizes['i8/1'].layerBytes).toBeGreaterThanOrEqual(exact)
  expect(found?.sizes['i8/1'].layerBytes).toBeLessThanOrEqual(exact + 8_192)
  expect(found?.kvBytesPerToken).toBe(2 * 8 * 128 * 4)
  // Parameters of a 70B model: 80 layers of 0.856 billion, 1.05 billion each for embedding and head.
  const large = models.find(({ repository }) => repository.includes('70B'))
  expect((large?.sizes['i8/1'].layerBytes ?? 0) * 80).toBeCloseTo(68.5e9, -9)
})

test('what is no catalogue is refused', () => {
  expect(() => parseCatalogue('{')).toThrow('not JSON')
  expect(() => parseCatalogue('{"format": 2, "models": []}')).toThrow('format')
})
