import { cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { concatBytes } from '../../src/base/bytes.ts'
import type { Span } from '../../src/base/span.ts'
import { downloadModel } from '../../src/shard/download.ts'
import { createFileServer, type FileServer } from '../../src/shard/file-server.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import { openHolding, verifyModel } from '../../src/shard/holding.ts'
import { createWebFolderSource } from '../../src/shard/http-source.ts'
import { declareEnds, packHeadRows, packLayer } from '../../src/shard/pack.ts'
import { type RecipeId, recipeIds } from '../../src/shard/recipe.ts'
import { encodeSafetensorsHeader } from '../../src/shard/safetensors.ts'
import { layerSources, surveyModel } from '../../src/shard/survey.ts'
import { demoFiles, demoFolder, loadModel } from '../helpers/golden.ts'
import { tempFolder } from '../helpers/temp-folder.ts'
import vector from '../vectors/model-id.json' with { type: 'json' }

async function serve(root: string): Promise<FileServer> {
  const server = await createFileServer({ root })
  onTestFinished(() => server.close())
  return server
}

async function pull(url: string, folder: string, span: Span | null, ends = false, recipe: RecipeId = 'i8/1') {
  return downloadModel({ source: createWebFolderSource({ base: url }), folder, recipe, span, ends })
}

const weightBytes = (files: Readonly<Record<string, number>>) =>
  Object.entries(files).reduce((sum, [file, bytes]) => sum + (file.endsWith('.safetensors') ? bytes : 0), 0)

const sharded = 'tests/golden/qwen3-sharded-f32'
const shardedFiles = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`)

describe('a download over HTTP', () => {
  test.each([
    [demoFolder, demoFiles, 12, 'i8/1'],
    [demoFolder, demoFiles, 12, 'q4/1'],
    [sharded, shardedFiles, 6, 'f32/1'],
    [sharded, shardedFiles, 6, 'q8/1'],
    ['tests/golden/qwen3-tied-bf16', ['model.safetensors'], 4, 'i8/1'],
    ['tests/golden/phi3-bf16', ['model.safetensors'], 4, 'i8/1'],
  ] as const)('%s: every layer file is what packing the whole model gives', async (root, files, nLayers, recipe) => {
    const folder = await tempFolder()
    const { url } = await serve(root)
    const holding = await pull(url, folder, { start: 0, end: nLayers }, true, recipe)
    const model = loadModel(root, files)
    expect(holding.spec).toEqual(model.spec)
    expect(holding.spans).toEqual([{ start: 0, end: nLayers }])
    for (const [index, layer] of model.spec.layers.entries()) {
      const { header, parts } = packLayer(layer, recipe, model.tensor)
      const file = await readFile(holding.layers.get(index)?.path ?? '')
      expect(file.equals(concatBytes(header, ...parts))).toBe(true)
    }
    expect((await verifyModel(folder)).sound).toBe(true)
    expect((await readdir(folder)).filter((name) => /partial|tmp/.test(name))).toEqual([])
  })

  test.each(recipeIds)('the ends of a tied model in %s: rows, norm and head', async (recipe) => {
    const folder = await tempFolder()
    const { url } = await serve(demoFolder)
    const { spec, endsPath, files } = await pull(url, folder, null, true, recipe)
    const model = loadModel(demoFolder, demoFiles)
    const file = await readFile(endsPath ?? '')
    const embedding = model.tensor(spec.embedding.name)
    const norm = model.tensor(spec.finalNorm.source.name)
    const parts = new Map<string, Uint8Array>([
      ['embedding', embedding.bytes],
      ...packHeadRows(spec, recipe, 0, embedding).map(({ tensor, bytes }): [string, Uint8Array] => [tensor, bytes]),
    ])
    let at = 4_096
    for (const { name } of declareEnds(spec, recipe, 'BF16')) {
      const expected = parts.get(name)
      if (expected) expect(file.subarray(at, at + expected.length).equals(expected)).toBe(true)
      else expect(name).toBe('final_norm')
      at += expected?.length ?? norm.bytes.length * 2
    }
    expect(at).toBe(file.length)
    expect([...files.keys()].sort()).toEqual([
      'config.json',
      'generation_config.json',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
  })

  test('a head that a tied model stores all the same is the head', async () => {
    const golden = 'tests/golden/qwen3-tied-bf16'
    const { spec, tensor } = loadModel(golden, ['model.safetensors'])
    const head = tensor(spec.embedding.name).bytes.map((byte) => byte ^ 1)
    const root = await tempFolder()
    await cp(golden, root, { recursive: true })
    const names = [...(await surveyModel(createFolderSource(golden))).tensors.values()]
    const declared = [...names, { name: 'lm_head.weight', dtype: 'BF16', shape: spec.head.shape } as const]
    const data = [...names.map(({ name }) => tensor(name).bytes), head]
    const file = concatBytes(encodeSafetensorsHeader(declared, { alignment: 8 }), ...data)
    await writeFile(join(root, 'model.safetensors'), file)
    const source = createFolderSource(root)
    const { endsPath } = await downloadModel({
      source,
      folder: await tempFolder(),
      recipe: 'f32/1',
      span: null,
      ends: true,
    })
    const ends = await readFile(endsPath ?? '')
    const [write] = packHeadRows(spec, 'f32/1', 0, { dtype: 'BF16', bytes: head })
    const at = 4_096 + spec.hiddenSize * 4
    expect(ends.subarray(at, at + (write?.bytes.length ?? 0)).equals(write?.bytes ?? new Uint8Array())).toBe(true)
  })

  test('model id and layer digests of the demo model are the recorded ones', async () => {
    const folder = await tempFolder()
    const { url } = await serve(demoFolder)
    const holding = await pull(url, folder, { start: 0, end: 12 })
    expect(holding.modelIdHex).toBe(vector.modelId)
    expect([...holding.layers.values()].map(({ digest }) => digest)).toEqual(vector.layerDigests)
  })

  test.each([
    [demoFolder, { start: 2, end: 4 }, false],
    [demoFolder, { start: 9, end: 12 }, true],
    [sharded, { start: 1, end: 2 }, false],
    [sharded, { start: 3, end: 5 }, false],
    [sharded, { start: 0, end: 6 }, true],
  ])('%s %o: only what is needed travels', async (root, span, ends) => {
    const folder = await tempFolder()
    const server = await serve(root)
    await pull(server.url, folder, span, ends)
    const survey = await surveyModel(createFolderSource(root))
    const names = survey.spec.layers
      .slice(span.start, span.end)
      .flatMap((layer) => layerSources(layer).map(({ name }) => name))
    if (ends) names.push(survey.spec.embedding.name, 'model.norm.weight', survey.headTensor)
    const wanted = [...new Set(names)].map((name) => survey.tensors.get(name))
    const tensorBytes = wanted.reduce((sum, tensor) => sum + (tensor ? tensor.end - tensor.begin : Number.NaN), 0)
    const headerBytes = survey.evidence.weightFiles.reduce((sum, { header }) => sum + 8 + header.length, 0)
    const sent = weightBytes(server.stats().files)
    expect(sent).toBeGreaterThanOrEqual(tensorBytes + headerBytes)
    expect(sent).toBeLessThanOrEqual(1.05 * (tensorBytes + headerBytes))
    const without = Object.keys(server.stats().files).some((file) => file.startsWith('tokenizer'))
    expect(without).toBe(ends)
  })

  test('a second run asks the server nothing, even when it is gone', async () => {
    const folder = await tempFolder()
    const server = await serve(demoFolder)
    await pull(server.url, folder, { start: 0, end: 2 }, true)
    await server.close()
    const holding = await pull(server.url, folder, { start: 0, end: 2 }, true)
    expect(holding.layers.size).toBe(2)
  })

  test('a changed span keeps held layers, fetches new ones and removes the rest', async () => {
    const folder = await tempFolder()
    const server = await serve(demoFolder)
    await pull(server.url, folder, { start: 2, end: 5 }, true)
    const kept = (await stat(join(folder, 'layer-00004.i8-1.safetensors'))).mtimeMs
    const before = weightBytes(server.stats().files)
    const holding = await pull(server.url, folder, { start: 4, end: 7 })
    expect([...holding.layers.keys()]).toEqual([4, 5, 6])
    expect(holding.endsPath).toBeNull()
    expect((await stat(join(folder, 'layer-00004.i8-1.safetensors'))).mtimeMs).toBe(kept)
    expect(weightBytes(server.stats().files) - before).toBe(2 * 393_856)
    expect((await readdir(folder)).sort()).toEqual([
      'config.json',
      'layer-00004.i8-1.safetensors',
      'layer-00005.i8-1.safetensors',
      'layer-00006.i8-1.safetensors',
      'manifest.json',
      'survey.json',
    ])
  })

  test('damage is found by verify and mended by the next download', async () => {
    const folder = await tempFolder()
    const { url } = await serve(demoFolder)
    await pull(url, folder, { start: 0, end: 2 })
    const path = join(folder, 'layer-00001.i8-1.safetensors')
    const sound = await readFile(path)
    const bytes = Uint8Array.from(sound)
    bytes[9_999] = (bytes[9_999] ?? 0) ^ 1
    await writeFile(path, bytes)
    const { files } = await verifyModel(folder, { forget: true })
    expect(files.filter(({ state }) => state !== 'sound')).toEqual([
      { name: 'layer-00001.i8-1.safetensors', state: 'damaged' },
    ])
    await pull(url, folder, { start: 0, end: 2 })
    expect(sound.equals(await readFile(path))).toBe(true)
    await rm(path)
    await expect(openHolding(folder)).rejects.toMatchObject({
      code: 'MODEL_CORRUPT',
      meta: { file: 'layer-00001.i8-1.safetensors' },
    })
    await pull(url, folder, { start: 0, end: 2 })
    expect(sound.equals(await readFile(path))).toBe(true)
  })

  test('several downloads are counted by client name', async () => {
    const server = await serve(demoFolder)
    for (const [clientName, start] of [
      ['a', 0],
      ['b', 3],
    ] as const) {
      const source = createWebFolderSource({ base: server.url, clientName })
      await downloadModel({
        source,
        folder: await tempFolder(),
        recipe: 'q4/1',
        span: { start, end: start + 1 },
        ends: false,
      })
    }
    const { clients, totalBytes } = server.stats()
    expect(Object.keys(clients)).toEqual(['a', 'b'])
    expect((clients.a?.totalBytes ?? 0) + (clients.b?.totalBytes ?? 0)).toBe(totalBytes)
  })
})

describe('what is refused', () => {
  test('before any weight travels: a disk that is too small, with numbers', async () => {
    const folder = await tempFolder()
    const server = await serve(demoFolder)
    const options = {
      source: createWebFolderSource({ base: server.url }),
      folder,
      span: { start: 0, end: 12 },
      ends: false,
    }
    const deps = { freeBytes: async () => 50_000_000, chunkBytes: 1_000 }
    await expect(downloadModel({ ...options, recipe: 'f32/1' }, deps)).rejects.toMatchObject({
      code: 'DISK_FULL',
      meta: { freeBytes: 50_000_000 },
    })
    expect(weightBytes(server.stats().files)).toBeLessThan(20_000)
  })

  test('a span beyond the model, another recipe, and another model in the same folder', async () => {
    const folder = await tempFolder()
    const { url } = await serve(demoFolder)
    await expect(pull(url, folder, { start: 10, end: 13 })).rejects.toMatchObject({ code: 'BAD_INPUT' })
    await pull(url, folder, { start: 0, end: 1 })
    await expect(pull(url, folder, { start: 0, end: 1 }, false, 'q4/1')).rejects.toMatchObject({ code: 'BAD_INPUT' })
    const other = await serve('tests/golden/qwen3-tied-bf16')
    await expect(pull(other.url, folder, { start: 0, end: 1 })).rejects.toMatchObject({ code: 'MODEL_CHANGED' })
    expect((await openHolding(folder)).modelIdHex).toBe(vector.modelId)
  })

  test('weights that do not fit the config, naming tensor, file and both shapes', async () => {
    const root = await tempFolder()
    await cp('tests/golden/qwen3-tied-bf16', root, { recursive: true })
    const config = JSON.parse(await readFile(join(root, 'config.json'), 'utf8'))
    await writeFile(join(root, 'config.json'), JSON.stringify({ ...config, intermediate_size: 128 }))
    const failed = surveyModel(createFolderSource(root))
    await expect(failed).rejects.toThrow(
      'gate_proj.weight in model.safetensors has the shape [96, 64], the config asks for [128, 64]',
    )
    await writeFile(join(root, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: 5 }))
    await expect(surveyModel(createFolderSource(root))).rejects.toThrow(
      'model.layers.4.input_layernorm.weight is in none',
    )
    await writeFile(join(root, 'config.json'), JSON.stringify({ ...config, model_type: 'qwen2', architectures: [] }))
    await expect(surveyModel(createFolderSource(root))).rejects.toMatchObject({ code: 'MODEL_CORRUPT' })
    await writeFile(join(root, 'config.json'), JSON.stringify({ ...config, model_type: 'llama', architectures: [] }))
    await expect(surveyModel(createFolderSource(root))).rejects.toThrow('this kind of model does not have')
  })

  test('a repository without config, weights or tokenizer', async () => {
    const root = await tempFolder()
    const source = createFolderSource(root)
    await expect(surveyModel(source)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    await cp('tests/golden/qwen3-tied-bf16/config.json', join(root, 'config.json'))
    await expect(surveyModel(source)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    await cp('tests/golden/qwen3-tied-bf16/model.safetensors', join(root, 'model.safetensors'))
    const options = { source, folder: await tempFolder(), recipe: 'i8/1', span: null, ends: true } as const
    await expect(downloadModel(options)).rejects.toThrow('has no tokenizer.json')
  })
})

test('a folder on this machine gives the same files as HTTP', async () => {
  const [a, b] = [await tempFolder(), await tempFolder()]
  const { url } = await serve(demoFolder)
  const fromWeb = await pull(url, a, { start: 5, end: 7 }, true)
  const source = createFolderSource(demoFolder)
  const fromDisk = await downloadModel({ source, folder: b, recipe: 'i8/1', span: { start: 5, end: 7 }, ends: true })
  expect(fromDisk.modelIdHex).toBe(fromWeb.modelIdHex)
  for (const name of ['layer-00005.i8-1.safetensors', 'layer-00006.i8-1.safetensors', 'ends.i8-1.safetensors']) {
    expect((await readFile(join(a, name))).equals(await readFile(join(b, name)))).toBe(true)
  }
})

test('progress ends at the whole, and an abort stops with ABORTED and can be taken up again', async () => {
  const folder = await tempFolder()
  const server = await serve(demoFolder)
  const stop = new AbortController()
  const options = { source: createWebFolderSource({ base: server.url }), folder, recipe: 'i8/1', ends: false } as const
  const span = { start: 0, end: 12 }
  const first = downloadModel({
    ...options,
    span,
    signal: stop.signal,
    onProgress: ({ filesDone }) => filesDone >= 2 && stop.abort(),
  })
  await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
  const seen: number[] = []
  const holding = await downloadModel({
    ...options,
    span,
    onProgress: ({ bytesDone, bytesTotal }) => seen.push(bytesTotal - bytesDone),
  })
  expect(seen.at(-1)).toBe(0)
  expect(holding.layers.size).toBe(12)
})
