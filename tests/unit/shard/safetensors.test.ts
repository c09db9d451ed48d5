import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import { isLlmNodeError } from '../../../src/base/errors.ts'
import {
  encodeSafetensorsHeader,
  parseSafetensorsHeader,
  readHeaderLength,
  type TensorDeclaration,
  tensorBytes,
} from '../../../src/shard/safetensors.ts'

const parse = (json: string, dataBytes: number) =>
  parseSafetensorsHeader(utf8(json), 8 + utf8(json).length + dataBytes, 'x.safetensors')

const lengthBytes = (length: bigint) => {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, length, true)
  return bytes
}

const a = (offsets: string, shape = '[2]', dtype = '"F32"') =>
  `"a":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`

describe('the header', () => {
  test('of a real file', () => {
    const file = readFileSync('models/demo-qwen3/model-00001-of-00002.safetensors')
    const length = readHeaderLength(file.subarray(0, 8), file.length, 'demo')
    const header = parseSafetensorsHeader(file.subarray(8, 8 + length), file.length, 'demo')
    expect(header.headerBytes).toBe(8 + 7_152)
    expect(header.tensors.get('model.embed_tokens.weight')).toEqual({
      name: 'model.embed_tokens.weight',
      dtype: 'BF16',
      shape: [2_048, 128],
      begin: 7_160,
      end: 7_160 + 524_288,
    })
  })

  test('may list tensors in any order, end in spaces, and hold scalars and empty tensors', () => {
    const entry = (dtype: string, shape: string, offsets: string) =>
      `{"shape":${shape},"data_offsets":${offsets},"dtype":"${dtype}"}`
    const json = `{"b":${entry('U8', '[3]', '[4,7]')},"e":${entry('I64', '[0,5]', '[4,4]')},"s":${entry('F32', '[]', '[0,4]')}}  `
    expect([...parse(json, 7).tensors.keys()]).toEqual(['b', 'e', 's'])
  })

  const bad: [why: string, json: string, dataBytes: number][] = [
    ['not JSON', '{"a":', 8],
    ['not begin with {', ' {}', 0],
    ['not begin with {', '[]', 0],
    ['not JSON', '{} x', 0],
    ['names "a" twice', `{${a('[0,8]')},${a('[0,8]')}}`, 8],
    ['names "a" twice', `{${a('[0,8]')},"\\u0061":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}`, 12],
    ['names "dtype" twice', '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8],
    ['names "k" twice', '{"__metadata__":{"k":"1","k":"2"}}', 0],
    ['other than text', '{"__metadata__":{"k":1}}', 0],
    ['other than text', '{"__metadata__":["k"]}', 0],
    ['not have exactly', '{"a":{"dtype":"F32","shape":[2]}}', 8],
    ['not have exactly', '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}', 8],
    ['not have exactly', '{"a":null}', 0],
    ['bad shape', `{${a('[0,8]', '[-2]')}}`, 8],
    ['bad shape', `{${a('[0,8]', '[2.5]')}}`, 8],
    ['bad shape', `{${a('[0,8]', '"2"')}}`, 8],
    ['bad shape', `{${a('[0,8]', '[9007199254740992]')}}`, 8],
    ['bad shape', `{${a('[0,8]', '[2,1,1,1,1,1,1,1,1]')}}`, 8],
    ['bad data_offsets', `{${a('[0]')}}`, 8],
    ['bad data_offsets', `{${a('[0,8,9]')}}`, 8],
    ['bad data_offsets', `{${a('[0,-8]')}}`, 8],
    ['outside the file', `{${a('[8,0]')}}`, 8],
    ['outside the file', `{${a('[0,8]')}}`, 4],
    ['has 8 bytes, not 12', `{${a('[0,8]', '[3]')}}`, 8],
    ['has 8 bytes, not', `{${a('[0,8]', '[94906267,94906267,94906267]')}}`, 8],
    ['begins at 4, not at 0', `{${a('[4,12]')}}`, 12],
    ['begins at 4, not at 8', `{${a('[0,8]')},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12],
    ['tensors end at', `{${a('[0,8]')}}`, 9],
  ]
  test.each(bad)('is refused: %s: %s', (why, json, dataBytes) => {
    expect(() => parse(json, dataBytes)).toThrow(why)
    expect(() => parse(json, dataBytes)).toThrow(expect.objectContaining({ code: 'MODEL_CORRUPT' }))
  })

  test('is refused with the dtype named when that is unknown', () => {
    const unknown = expect.objectContaining({ code: 'MODEL_UNSUPPORTED', message: expect.stringContaining('F4') })
    expect(() => parse(`{${a('[0,8]', '[2]', '"F4"')}}`, 8)).toThrow(unknown)
    expect(() => parse(`{${a('[0,8]', '[2]', '"toString"')}}`, 8)).toThrow('unknown dtype')
  })

  test('is refused when it is not UTF-8', () => {
    const json = concatBytes(utf8('{"'), Uint8Array.of(0xff), utf8('":1}'))
    expect(() => parseSafetensorsHeader(json, json.length + 8, 'x')).toThrow('not JSON')
  })
})

describe('its length', () => {
  test.each([
    ['too long for the format', 100_000_001n, 200_000_000],
    ['beyond every number', 2n ** 64n - 1n, 1_000],
    ['longer than the file', 93n, 100],
    ['too short for {}', 1n, 100],
  ])('is refused: %s', (_, length, fileBytes) => {
    expect(() => readHeaderLength(lengthBytes(length), fileBytes, 'x')).toThrow('not a sound safetensors file')
  })

  test('needs 8 bytes', () => {
    expect(() => readHeaderLength(new Uint8Array(7), 7, 'x')).toThrow('shorter than its header')
    expect(readHeaderLength(lengthBytes(92n), 100, 'x')).toBe(92)
  })
})

const declaration: fc.Arbitrary<TensorDeclaration> = fc.record({
  name: fc.string({ minLength: 1, maxLength: 12 }).filter((name) => name !== '__metadata__'),
  dtype: fc.constantFrom('F32', 'BF16', 'U8', 'I8', 'I64'),
  shape: fc.array(fc.nat({ max: 5 }), { maxLength: 4 }),
})

test('what is written is read back, aligned, for any tensors', () => {
  const files = fc.uniqueArray(declaration, { selector: ({ name }) => name, maxLength: 8 })
  fc.assert(
    fc.property(files, fc.constantFrom(8, 64, 4_096), (tensors, alignment) => {
      const header = encodeSafetensorsHeader(tensors, { alignment, metadata: { recipe: 'x' } })
      expect(header.length % alignment).toBe(0)
      const data = tensors.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape), 0)
      const fileBytes = header.length + data
      expect(readHeaderLength(header.subarray(0, 8), fileBytes, 'x')).toBe(header.length - 8)
      const read = parseSafetensorsHeader(header.subarray(8), fileBytes, 'x')
      let at = header.length
      for (const { name, dtype, shape } of tensors) {
        const end = at + tensorBytes(dtype, shape)
        expect(read.tensors.get(name)).toEqual({ name, dtype, shape, begin: at, end })
        at = end
      }
      expect(read.tensors.size).toBe(tensors.length)
    }),
  )
})

test('any damage to a header is an LlmNodeError, never another one, or the header still reads', () => {
  const tensors: TensorDeclaration[] = [
    { name: 'a', dtype: 'F32', shape: [2, 3] },
    { name: 'b', dtype: 'U8', shape: [5] },
  ]
  const header = encodeSafetensorsHeader(tensors, { alignment: 8 })
  fc.assert(
    fc.property(fc.nat({ max: header.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const damaged = header.slice()
      damaged[at] = byte
      try {
        const length = readHeaderLength(damaged, header.length + 29, 'x')
        parseSafetensorsHeader(damaged.subarray(8, 8 + length), header.length + 29, 'x')
      } catch (error) {
        if (!isLlmNodeError(error)) throw error
      }
    }),
  )
})
