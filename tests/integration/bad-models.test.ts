/**
 * Repositories that are not what they say: each gives one clear error, leaves nothing that is trusted later, and the
 * same folder takes the sound model afterwards.
 */
import { cp, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isLlmNodeError } from '../../src/base/errors.ts'
import { downloadModel } from '../../src/shard/download.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { openHolding, verifyModel } from '../../src/shard/holding.ts'
import { createWebFolderSource } from '../../src/shard/http-source.ts'
import type { ModelSource } from '../../src/shard/source.ts'
import { createFaultServer } from '../helpers/fault-server.ts'
import { tempFolder } from '../helpers/temp-folder.ts'

const sound = 'tests/golden/qwen3-tied-bf16'
const soundSharded = 'tests/golden/qwen3-sharded-f32'
const file = 'model.safetensors'
const index = 'model.safetensors.index.json'
const norm = 'model.layers.1.input_layernorm.weight'

type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] }
type Header = Record<string, Entry>

/** Rewrites the header of the single weight file; the bytes of the tensors stay as they are. */
async function changeHeader(root: string, change: (header: Header) => unknown): Promise<void> {
  const bytes = await readFile(join(root, file))
  const end = 8 + Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.subarray(8, end).toString()) as Header
  const changed = change(header) ?? header
  const json = Buffer.from(typeof changed === 'string' ? changed : JSON.stringify(changed))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  await writeFile(join(root, file), Buffer.concat([length, json, bytes.subarray(end)]))
}

const entryOf = (header: Header, name: string): Entry => header[name] ?? expect.fail(`no ${name}`)

async function changeJson(root: string, name: string, change: (json: Record<string, unknown>) => void): Promise<void> {
  const json = JSON.parse(await readFile(join(root, name), 'utf8'))
  change(json)
  await writeFile(join(root, name), JSON.stringify(json))
}

/** What is wrong; the error's code and what it says. */
type Fault = readonly [what: string, code: RegExp, says: RegExp, spoil: (root: string) => Promise<void>, root?: string]

const faults: readonly Fault[] = [
  [
    'tensors overlap',
    /MODEL_CORRUPT/,
    /begins at \d+, not at \d+/,
    (root) =>
      changeHeader(root, (header) => {
        const entry = entryOf(header, norm)
        entry.data_offsets = [entry.data_offsets[0] - 2, entry.data_offsets[1] - 2]
      }),
  ],
  [
    'a gap between tensors',
    /MODEL_CORRUPT/,
    /begins at \d+, not at \d+/,
    (root) =>
      changeHeader(root, (header) => {
        for (const entry of Object.values(header)) {
          if (entry.data_offsets === undefined) continue
          if (entry.data_offsets[0] >= entryOf(header, norm).data_offsets[0]) {
            entry.data_offsets = [entry.data_offsets[0] + 2, entry.data_offsets[1] + 2]
          }
        }
      }).then(async () => {
        const bytes = await readFile(join(root, file))
        await writeFile(join(root, file), Buffer.concat([bytes, Buffer.alloc(2)]))
      }),
  ],
  [
    'a name twice',
    /MODEL_CORRUPT/,
    /names ".*" twice/,
    (root) =>
      changeHeader(root, (header) =>
        JSON.stringify(header).replace('{', `{"${norm}":${JSON.stringify(header[norm])},`),
      ),
  ],
  [
    'a header that claims more than the format allows',
    /MODEL_CORRUPT|LIMIT/,
    /header/,
    async (root) => {
      const bytes = await readFile(join(root, file))
      bytes.writeBigUInt64LE(2n ** 40n)
      await writeFile(join(root, file), bytes)
    },
  ],
  [
    'a header that is longer than the file',
    /MODEL_CORRUPT/,
    /header|short/,
    async (root) => {
      const bytes = await readFile(join(root, file))
      bytes.writeBigUInt64LE(BigInt(bytes.length))
      await writeFile(join(root, file), bytes)
    },
  ],
  ['a header that is no JSON', /MODEL_CORRUPT/, /not JSON/, (root) => changeHeader(root, () => '{"a":')],
  [
    'an unknown dtype',
    /MODEL_UNSUPPORTED/,
    /F4/,
    (root) =>
      changeHeader(root, (header) => {
        entryOf(header, norm).dtype = 'F4'
      }),
  ],
  [
    'a dtype that is no number of a model',
    /MODEL_UNSUPPORTED|MODEL_CORRUPT/,
    /input_layernorm.*I16|I16.*input_layernorm/,
    (root) =>
      changeHeader(root, (header) => {
        entryOf(header, norm).dtype = 'I16'
      }),
  ],
  [
    'a missing tensor',
    /MODEL_CORRUPT/,
    /model\.layers\.1\.input_layernorm\.weight/,
    (root) =>
      changeHeader(root, (header) => {
        header.extra = entryOf(header, norm)
        delete header[norm]
      }),
  ],
  [
    'a wrong shape',
    /MODEL_CORRUPT/,
    /has the shape \[2, 32\], the config asks for \[64\]/,
    (root) =>
      changeHeader(root, (header) => {
        entryOf(header, norm).shape = [2, 32]
      }),
  ],
  [
    'a shape that does not fit its bytes',
    /MODEL_CORRUPT/,
    /has \d+ bytes, not/,
    (root) =>
      changeHeader(root, (header) => {
        entryOf(header, norm).shape = [65]
      }),
  ],
  ['a file that is cut off', /MODEL_CORRUPT/, /outside the file/, (root) => truncate(join(root, file), 300_000)],
  ['an empty file', /MODEL_CORRUPT|DOWNLOAD_FAILED/, /model\.safetensors/, (root) => truncate(join(root, file), 0)],
  [
    'bytes after the last tensor',
    /MODEL_CORRUPT/,
    /tensors end at/,
    async (root) => writeFile(join(root, file), Buffer.concat([await readFile(join(root, file)), Buffer.alloc(1)])),
  ],
  [
    'a weight that is no number',
    /MODEL_CORRUPT/,
    /layers\.1\.input_layernorm/,
    async (root) => {
      const bytes = await readFile(join(root, file))
      const end = 8 + Number(bytes.readBigUInt64LE())
      const header = JSON.parse(bytes.subarray(8, end).toString()) as Header
      // BF16: all exponent bits and one of the fraction.
      bytes.writeUInt16LE(0x7fc0, end + entryOf(header, norm).data_offsets[0])
      await writeFile(join(root, file), bytes)
    },
  ],
  ['a config that is no JSON', /MODEL_\w+/, /config\.json/, (root) => writeFile(join(root, 'config.json'), '{"a":')],
  [
    'a config that is a list',
    /MODEL_UNSUPPORTED/,
    /not a JSON object/,
    (root) => writeFile(join(root, 'config.json'), '[]'),
  ],
  [
    'a family that nobody knows',
    /MODEL_UNSUPPORTED/,
    /model_type is "mamba"/,
    (root) =>
      changeJson(root, 'config.json', (config) => {
        config.model_type = 'mamba'
      }),
  ],
  [
    'an index that names a path',
    /MODEL_CORRUPT/,
    /names the file "\.\.\/x\.safetensors"/,
    (root) =>
      changeJson(root, index, ({ weight_map: map }) => {
        ;(map as Record<string, string>)[norm] = '../x.safetensors'
      }),
    soundSharded,
  ],
  [
    'an index that names a file that is not there',
    /MODEL_\w+/,
    /model-00009-of-00003\.safetensors/,
    (root) =>
      changeJson(root, index, ({ weight_map: map }) => {
        ;(map as Record<string, string>)[norm] = 'model-00009-of-00003.safetensors'
      }),
    soundSharded,
  ],
  ['an index without a map', /MODEL_CORRUPT/, /weight_map/, (root) => writeFile(join(root, index), '{}'), soundSharded],
]

const pull = (source: ModelSource, folder: string) =>
  downloadModel({ source, folder, recipe: 'q8/1', span: { start: 0, end: 3 }, ends: true })

const trusted = async (folder: string) =>
  (await readdir(folder)).filter((name) => /^(layer-0000[1-9]|ends).*\.safetensors$/.test(name))

describe.each(['folder', 'http'] as const)('from a %s', (way) => {
  const open = async (root: string): Promise<ModelSource> =>
    way === 'folder' ? createFolderSource(root) : createWebFolderSource({ base: (await createFaultServer(root)).url })

  const named = faults.map(([what, code, says, spoil, from = sound]) => ({ what, code, says, spoil, from }))
  test.each(named)('$what', async ({ code, says, spoil, from }) => {
    const root = await tempFolder()
    await cp(from, root, { recursive: true })
    await spoil(root)
    const folder = await tempFolder()
    const error = await pull(await open(root), folder).then(
      () => expect.fail('it was taken'),
      (reason: unknown) => reason,
    )
    expect(isLlmNodeError(error)).toBe(true)
    expect(error).toMatchObject({ code: expect.stringMatching(code), message: expect.stringMatching(says) })
    expect(String((error as Error).message)).not.toContain('\n')
    // The layer with the fault in its bytes, and what comes after it, are not held.
    const held = await openHolding(folder).catch(() => undefined)
    expect(held?.layers.has(1) ?? false).toBe(false)
    expect((await trusted(folder)).filter((name) => name.startsWith('layer-00001'))).toEqual([])
  })

  test('the same folder takes the sound model afterwards, and all of it is right', async () => {
    const root = await tempFolder()
    await cp(sound, root, { recursive: true })
    await changeHeader(root, (header) => {
      entryOf(header, norm).shape = [2, 32]
    })
    const folder = await tempFolder()
    await expect(pull(await open(root), folder)).rejects.toMatchObject({ code: 'MODEL_CORRUPT' })
    const other = await tempFolder()
    await pull(await open(sound), other)
    await pull(await open(sound), folder)
    expect((await verifyModel(folder)).sound).toBe(true)
    for (const name of await trusted(other)) {
      expect(await readFile(join(folder, name))).toEqual(await readFile(join(other, name)))
    }
  })
})
