import { appendFile, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openPartial, partialName, removePartial } from '../../../src/shard/partial.ts'
import type { Unit } from '../../../src/shard/units.ts'
import { tempFolder } from '../../helpers/temp-folder.ts'

const unit: Unit = {
  layer: 3,
  fileName: 'layer-00003.i8-1.safetensors',
  tensors: [{ name: 't', file: 'f', dtype: 'F32', shape: [25], begin: 8, end: 108, at: 0 }],
  rawBytes: 100,
  packedBytes: 0,
}

async function begun() {
  const path = join(await tempFolder(), partialName(unit.fileName))
  const partial = await openPartial(path, unit, 'state')
  await partial.write(10, Uint8Array.of(1, 2, 3))
  await partial.commit([{ begin: 10, end: 13 }])
  await partial.write(50, new Uint8Array(30))
  await partial.close()
  return path
}

async function doneIn(path: string, state = 'state', of = unit) {
  const partial = await openPartial(path, of, state)
  await partial.close()
  return partial.done
}

test('what was committed is there again, what was only written is not', async () => {
  const path = await begun()
  expect(await doneIn(path)).toEqual([{ begin: 10, end: 13 }])
  expect([...(await readFile(path)).subarray(10, 13)]).toEqual([1, 2, 3])
})

test('half a line, as a kill leaves it, counts for nothing and spoils nothing that follows', async () => {
  const path = await begun()
  for (const torn of ['5', '50-', '50-8', '50-80']) {
    await appendFile(`${path}.ranges`, torn)
    const partial = await openPartial(path, unit, 'state')
    expect(partial.done).toEqual([{ begin: 10, end: 13 }])
    await partial.close()
  }
  const partial = await openPartial(path, unit, 'state')
  await partial.commit([{ begin: 50, end: 60 }])
  await partial.close()
  expect(await doneIn(path)).toEqual([
    { begin: 10, end: 13 },
    { begin: 50, end: 60 },
  ])
})

test('lines that lie are left out: beyond the unit, backwards, beyond the data', async () => {
  const path = await begun()
  await appendFile(`${path}.ranges`, '0-101;\n9-3;\n-1-5;\nx\n')
  expect(await doneIn(path)).toEqual([{ begin: 10, end: 13 }])
  await truncate(path, 12)
  expect(await doneIn(path)).toEqual([])
})

test.each([
  ['another state', 'other', unit],
  ['another layout', 'state', { ...unit, tensors: unit.tensors.map((tensor) => ({ ...tensor, begin: 9, end: 109 })) }],
])('%s begins anew', async (_, state, of) => {
  const path = await begun()
  expect(await doneIn(path, state, of)).toEqual([])
  expect(await doneIn(path)).toEqual([])
})

test('a journal without data, and data without a journal, begin anew', async () => {
  const path = await begun()
  await rm(path)
  expect(await doneIn(path)).toEqual([])
  const other = await begun()
  await writeFile(`${other}.ranges`, '')
  expect(await doneIn(other)).toEqual([])
  await removePartial(other)
  await expect(readFile(other)).rejects.toThrow()
})
