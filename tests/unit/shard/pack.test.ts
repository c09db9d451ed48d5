import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { concatBytes, equalBytes } from '../../../src/base/bytes.ts'
import type { LayerSpec } from '../../../src/model/spec.ts'
import {
  declareEnds,
  declareLayer,
  type PackedFile,
  packedFileBytes,
  packHeadRows,
  packLayer,
} from '../../../src/shard/pack.ts'
import { type RecipeId, recipeIds } from '../../../src/shard/recipe.ts'
import { parseSafetensorsHeader, readHeaderLength } from '../../../src/shard/safetensors.ts'
import { widen } from '../../../src/shard/widen.ts'
import { demoFiles, demoFolder, loadModel } from '../../helpers/golden.ts'

const demo = loadModel(demoFolder, demoFiles)

function layerAt(index: number): LayerSpec {
  const layer = demo.spec.layers[index]
  if (!layer) throw new Error(`no layer ${index}`)
  return layer
}

function read(file: PackedFile) {
  const bytes = concatBytes(file.header, ...file.parts)
  const length = readHeaderLength(bytes, bytes.length, 'packed')
  const header = parseSafetensorsHeader(bytes.subarray(8, 8 + length), bytes.length, 'packed')
  return {
    bytes,
    header,
    tensor(name: string): Uint8Array<ArrayBuffer> {
      const entry = header.tensors.get(name)
      if (!entry) throw new Error(`no ${name}`)
      return bytes.slice(entry.begin, entry.end)
    },
    f32(name: string): Float32Array {
      return new Float32Array(this.tensor(name).buffer)
    },
  }
}

/** W[k, n] of a stacked matrix, straight from the source and without the code under test's loops. */
function reference(layer: LayerSpec, role: string): { k: number; n: number; at(i: number, column: number): number } {
  const linear = layer.linears.find((one) => one.role === role)
  if (!linear) throw new Error(`no ${role}`)
  const columns: Float32Array[] = []
  for (const { name } of linear.weight) {
    const { bytes } = demo.tensor(name)
    for (let at = 0; at < bytes.length; at += linear.k * 2) {
      const words = Array.from(
        { length: linear.k },
        (_, i) => (bytes[at + 2 * i] ?? 0) | ((bytes[at + 2 * i + 1] ?? 0) << 8),
      )
      columns.push(new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer))
    }
  }
  return { k: linear.k, n: linear.n, at: (i, column) => columns[column]?.[i] ?? Number.NaN }
}

/** Ties to even, written out. */
function halfEven(x: number): number {
  const floor = Math.floor(x)
  if (x - floor !== 0.5) return Math.round(x)
  return floor % 2 === 0 ? floor : floor + 1
}

const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x))

describe('a packed layer', () => {
  test.each(recipeIds)('%s holds what declareLayer says, f32 first, data at a multiple of 4096', (recipe) => {
    const packed = packLayer(layerAt(3), recipe, demo.tensor)
    const { header, bytes } = read(packed)
    const declared = declareLayer(layerAt(3), recipe)
    expect([...header.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(declared)
    expect(header.headerBytes % 4_096).toBe(0)
    expect(bytes.length).toBe(packedFileBytes(declared, recipe))
    for (const { begin, dtype } of header.tensors.values()) expect(dtype === 'F32' ? begin % 4 : 0).toBe(0)
  })

  test('f32/1: matrices are transposed, norms widened', () => {
    const packed = read(packLayer(layerAt(0), 'f32/1', demo.tensor))
    const w = reference(layerAt(0), 'gate_up')
    const weight = packed.f32('gate_up.weight')
    let wrong = 0
    for (let i = 0; i < w.k; i++) for (let j = 0; j < w.n; j++) if (weight[i * w.n + j] !== w.at(i, j)) wrong++
    expect(wrong).toBe(0)
    const norm = new Float32Array(128)
    widen('BF16', demo.tensor('model.layers.0.input_layernorm.weight').bytes, norm, 'norm')
    expect(packed.f32('attn_norm')).toEqual(norm)
  })

  test('i8/1: a scale per column, whole numbers to even', () => {
    const packed = read(packLayer(layerAt(1), 'i8/1', demo.tensor))
    for (const role of ['qkv', 'down']) {
      const w = reference(layerAt(1), role)
      const scales = packed.f32(`${role}.scales`)
      const q = new Int8Array(packed.tensor(`${role}.q`).buffer)
      const wrong: string[] = []
      for (let j = 0; j < w.n; j++) {
        const column = Array.from({ length: w.k }, (_, i) => w.at(i, j))
        const scale = Math.fround(Math.max(...column.map(Math.abs)) / 127)
        if (scales[j] !== scale) wrong.push(`scale ${j}`)
        for (const [i, value] of column.entries()) {
          if (q[i * w.n + j] !== clamp(halfEven(value / scale), -127, 127)) wrong.push(`${i},${j}`)
        }
      }
      expect(wrong).toEqual([])
    }
  })

  test.each([
    ['q8/1', 128, 1, -127, 127],
    ['q4/1', 8, 2, -8, 7],
  ] as const)('%s: blocks of 128 along k', (recipe, zero, perByte, low, high) => {
    const packed = read(packLayer(layerAt(1), recipe, demo.tensor))
    const w = reference(layerAt(1), 'down')
    const scales = packed.f32('down.scales')
    const q = packed.tensor('down.q')
    const wrong: string[] = []
    for (let j = 0; j < w.n; j++) {
      for (let block = 0; block < w.k / 128; block++) {
        const values = Array.from({ length: 128 }, (_, i) => w.at(block * 128 + i, j))
        const extreme = values.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0)
        const scale = Math.fround(recipe === 'q8/1' ? Math.abs(extreme) / 127 : extreme / -8)
        const index = j * (w.k / 128) + block
        if (scales[index] !== scale) wrong.push(`scale ${index}`)
        for (const [i, value] of values.entries()) {
          const byte = q[(index * 128 + i - (i % perByte)) / perByte] ?? 0
          const stored = perByte === 1 ? byte : i % 2 === 0 ? byte & 15 : byte >> 4
          if (stored !== clamp(halfEven(value / scale), low, high) + zero) wrong.push(`${index},${i}`)
        }
      }
    }
    expect(wrong).toEqual([])
  })

  // Every node packs for itself and must get these bytes: a change here is a new recipe version, not a new pin.
  const pinned: Record<RecipeId, string> = {
    'i8/1': '65a0585222a527901a002c8d536d1f8435fd36fccc878d5e2fe425c798e1fdf9',
    'q4/1': '09e5883081b38a2988aefc9e08e452f907e43acba25234de6e1a7018f5fcd33e',
    'q8/1': '3ebfc8528de695b7722e8c90f1034b39d407ffaec00f0367e66de6f264d1c50d',
    'f32/1': '9b3374550d079dc14cc7f75572908dddef79979cfc5f552c2382fda7d2c766bd',
  }
  test.each(recipeIds)('%s of the demo model: the bytes are pinned', (recipe) => {
    const hash = createHash('sha256')
    for (const layer of demo.spec.layers) {
      const { header, parts } = packLayer(layer, recipe, demo.tensor)
      hash.update(header)
      for (const part of parts) hash.update(part)
    }
    expect(hash.digest('hex')).toBe(pinned[recipe])
  })
})

describe('odd matrices', () => {
  const one = (
    k: number,
    values: number[][],
  ): { layer: LayerSpec; source: () => { dtype: 'F32'; bytes: Uint8Array } } => {
    const shape = [values.length, k]
    const bytes = new Uint8Array(Float32Array.from(values.flat()).buffer)
    return {
      layer: {
        linears: [{ role: 'o', k, n: values.length, weight: [{ name: 'w', shape }], bias: [] }],
        vectors: [],
        slidingWindow: null,
      },
      source: () => ({ dtype: 'F32', bytes }),
    }
  }
  const fill = (value: number) => Array.from({ length: 16 }, () => value)

  test('an all-zero column has scale 1, and so has one whose scale underflows', () => {
    const { layer, source } = one(16, [fill(0), fill(2 ** -149), fill(-127)])
    const i8 = read(packLayer(layer, 'i8/1', source))
    expect([...i8.f32('o.scales')]).toEqual([1, 1, 1])
    expect([...new Int8Array(i8.tensor('o.q').buffer)].slice(0, 3)).toEqual([0, 0, -127])
    const q4 = read(packLayer(layer, 'q4/1', source))
    expect([...q4.f32('o.scales')]).toEqual([1, 1, 15.875])
    expect([...q4.tensor('o.q')].slice(0, 9)).toEqual([...Array.from({ length: 8 }, () => 0x88), 0x88])
    expect([...read(packLayer(layer, 'q8/1', source)).f32('o.scales')]).toEqual([1, 1, 1])
  })

  test('ties go to even', () => {
    const values = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5, 0, 0, 0, 0, 0, 0, 0, 0]
    const { layer, source } = one(16, [values])
    const q = new Int8Array(read(packLayer(layer, 'i8/1', source)).tensor('o.q').buffer)
    expect([...q].slice(0, 8)).toEqual([127, 0, 2, 2, 0, -2, -2, 4])
  })

  test('a value that is not finite is refused, naming the tensor', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const { layer, source } = one(16, [[...fill(1).slice(1), value]])
      for (const recipe of recipeIds) expect(() => packLayer(layer, recipe, source)).toThrow('w holds a value')
    }
  })

  test('a k that no block divides is refused by q8 and q4 alone', () => {
    const { layer, source } = one(24, [Array.from({ length: 24 }, () => 1)])
    expect(() => packLayer(layer, 'q4/1', source)).toThrow('24 columns')
    expect(() => packLayer(layer, 'q8/1', source)).toThrow(expect.objectContaining({ code: 'MODEL_UNSUPPORTED' }))
    expect(read(packLayer(layer, 'i8/1', source)).header.tensors.get('o.q')?.shape).toEqual([24, 1])
  })

  test('bytes that do not fit the shape are refused', () => {
    const { layer } = one(16, [fill(1)])
    expect(() => packLayer(layer, 'f32/1', () => ({ dtype: 'F32', bytes: new Uint8Array(63) }))).toThrow('63 bytes')
  })
})

test.each(recipeIds)('%s: the head packed in blocks of rows equals the head packed in one go', (recipe) => {
  const { spec } = demo
  const source = demo.tensor(spec.embedding.name)
  const rowBytes = 128 * 2
  const assemble = (rowsAtOnce: number): Uint8Array[] => {
    const declared = declareEnds(spec, recipe, 'BF16').filter(({ name }) => name.startsWith('head.'))
    const size = (shape: readonly number[], bytes: number) => shape.reduce((product, dim) => product * dim, bytes)
    const out = new Map(
      declared.map(({ name, dtype, shape }) => [name, new Uint8Array(size(shape, dtype === 'F32' ? 4 : 1))]),
    )
    for (let row = 0; row < spec.vocabSize; row += rowsAtOnce) {
      const bytes = source.bytes.subarray(row * rowBytes, (row + rowsAtOnce) * rowBytes)
      for (const write of packHeadRows(spec, recipe, row, { dtype: 'BF16', bytes })) {
        for (let i = 0; i * write.runBytes < write.bytes.length; i++) {
          const run = write.bytes.subarray(i * write.runBytes, (i + 1) * write.runBytes)
          out.get(write.tensor)?.set(run, write.offset + i * write.stride)
        }
      }
    }
    return [...out.values()]
  }
  const whole = assemble(2_048)
  expect(equalBytes(concatBytes(...assemble(700)), concatBytes(...whole))).toBe(true)
  const layer: LayerSpec = {
    linears: [{ role: 'down', k: 128, n: 2_048, weight: [spec.embedding], bias: [] }],
    vectors: [],
    slidingWindow: null,
  }
  expect(equalBytes(concatBytes(...packLayer(layer, recipe, () => source).parts), concatBytes(...whole))).toBe(true)
})

test('F16 widens exactly, subnormals and zeros with their sign too', () => {
  const halves = Uint16Array.of(0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x3555)
  const out = new Float32Array(halves.length)
  widen('F16', new Uint8Array(halves.buffer), out, 'x')
  const third = 1365 / 4096
  expect([...out]).toEqual([0, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 1, -2, 65_504, third])
  const shifted = new Uint8Array(5)
  shifted.set(Uint8Array.of(0x00, 0x3c, 0x00, 0xc0), 1)
  widen('F16', shifted.subarray(1), out, 'x')
  expect([...out.subarray(0, 2)]).toEqual([1, -2])
  expect(() => widen('F16', Uint8Array.of(0, 0x7c), out, 'x')).toThrow('not finite')
  expect(() => widen('BF16', Uint8Array.of(0xc0, 0x7f), out, 'x')).toThrow('not finite')
})
