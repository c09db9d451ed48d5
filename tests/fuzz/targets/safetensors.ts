import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import {
  encodeSafetensorsHeader,
  parseSafetensorsHeader,
  readHeaderLength,
  tensorBytes,
} from '../../../src/shard/safetensors.ts'
import { type FuzzTarget, promise, resized, unlessRefused } from '../target.ts'

const REFUSALS = ['MODEL_CORRUPT', 'MODEL_UNSUPPORTED'] as const

/** The first key that comes twice in one object, found in another way than in src/: by counting what JSON.parse sees. */
function countKeys(text: string): number {
  let keys = 0
  JSON.parse(text, (_, value: unknown) => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) keys += Object.keys(value).length
    return value
  })
  return keys
}

/** Input: length of the data behind the header 4, then the JSON. A length of 2^32 − 1 stands for what the JSON claims. */
export const safetensorsTarget: FuzzTarget = {
  name: 'safetensors',
  maxBytes: 4_096,
  maxAllocated: (length) => 262_144 + 512 * length,
  seeds: () => {
    const tensors = [
      { name: 'a.weight', dtype: 'BF16' as const, shape: [4, 3] },
      { name: 'b', dtype: 'F32' as const, shape: [] },
      { name: 'empty', dtype: 'U8' as const, shape: [0, 7] },
    ]
    const header = encodeSafetensorsHeader(tensors, { alignment: 8, metadata: { format: 'pt' } })
    const odd =
      '{"a":{"dtype":"F8_E4M3","shape":[1,2],"data_offsets":[0,2]},"\\u0061b":{"dtype":"I64","shape":[1],"data_offsets":[2,10]}}'
    return [
      concatBytes(Uint8Array.of(0, 0, 0, 28), header.subarray(8)),
      concatBytes(Uint8Array.of(0, 0, 0, 10), utf8(odd)),
      concatBytes(Uint8Array.of(255, 255, 255, 255), utf8(odd)),
    ]
  },
  run(input) {
    const json = input.subarray(4)
    const given = new DataView(resized(input, 4).buffer).getUint32(0)
    const claimed = Math.max(
      0,
      ...Array.from(
        Buffer.from(json)
          .toString('latin1')
          .matchAll(/\d{1,15}\]/g),
        ([end]) => Number.parseInt(end, 10),
      ),
    )
    const fileBytes = 8 + json.length + (given === 0xffff_ffff ? claimed : given)
    const first = resized(input, 8)
    const length = unlessRefused(REFUSALS, () => readHeaderLength(first, fileBytes, 'fuzz'))
    promise(length === undefined || (length >= 2 && length <= fileBytes - 8), 'a header lies within its file')
    const header = unlessRefused(REFUSALS, () => parseSafetensorsHeader(json, fileBytes, 'fuzz'))
    if (header === undefined) return
    const text = Buffer.from(json).toString('utf8')
    let at = header.headerBytes
    let keys = 0
    for (const { name, dtype, shape, begin, end } of [...header.tensors.values()].sort(
      (a, b) => a.begin - b.begin || a.end - b.end,
    )) {
      promise(begin === at && end - begin === tensorBytes(dtype, shape), `tensor ${name} lies where its neighbour ends`)
      promise(shape.every(Number.isSafeInteger) && Number.isSafeInteger(end), 'all numbers are exact')
      at = end
      keys++
    }
    promise(at === fileBytes, 'the tensors fill the file')
    const quoted = text.match(/"(?:[^"\\]|\\.)*"\s*:/g) ?? []
    promise(quoted.length === countKeys(text) && keys <= quoted.length, 'no key comes twice')
  },
}
